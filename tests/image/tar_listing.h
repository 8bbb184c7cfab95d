// SPDX-License-Identifier: Apache-2.0
// A tar in memory as a list of entries, read back by TarReader.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "fs/base/bytes.h"
#include "fs/image/tar_reader.h"

namespace layerfs::image {

class WholeSource final : public ChunkSource {
 public:
  explicit WholeSource(std::string_view bytes) : rest_(bytes) {}
  Result<std::span<const std::byte>> next() override {
    std::string_view piece = rest_.substr(0, 64 * 1024);
    rest_.remove_prefix(piece.size());
    return as_bytes(piece);
  }

 private:
  std::string_view rest_;
};

struct ListedEntry {
  TarMember member;
  std::string content;  // holes filled in
};

inline std::vector<ListedEntry> list_tar(std::string_view tar) {
  std::vector<ListedEntry> entries;
  WholeSource source(tar);
  TarReader reader(source, {}, TarEnd::kMarked);
  for (;;) {
    auto more = reader.next();
    if (!more) {
      ADD_FAILURE() << more.error().message();
      return entries;
    }
    if (!*more) return entries;
    ListedEntry entry{reader.member(), {}};
    auto data = [&](std::string_view bytes) -> Result<void> {
      entry.content += bytes;
      return {};
    };
    auto hole = [&](std::uint64_t size) -> Result<void> {
      entry.content.append(size, '\0');
      return {};
    };
    if (entry.member.type == TarType::kRegular) {
      auto read = entry.member.is_sparse ? reader.read_sparse(data, hole) : reader.read_pieces(data);
      if (!read) ADD_FAILURE() << read.error().message();
    }
    entries.push_back(std::move(entry));
  }
}

inline std::vector<std::string> names_of(const std::vector<ListedEntry>& entries) {
  std::vector<std::string> names;
  for (const auto& entry : entries) names.push_back(entry.member.name);
  return names;
}

}  // namespace layerfs::image
