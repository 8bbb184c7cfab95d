// SPDX-License-Identifier: Apache-2.0
// Reads a tar in memory with TarReader in pieces of a chosen size, and keeps what it said.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/bytes.h"
#include "fs/image/tar_reader.h"

namespace layerfs::image {

class PieceSource final : public ChunkSource {
 public:
  PieceSource(std::string_view bytes, std::size_t piece) : rest_(bytes), piece_(piece) {}
  Result<std::span<const std::byte>> next() override {
    last_ = std::string(rest_.substr(0, piece_));  // its own memory: a late read of it is seen by asan
    rest_.remove_prefix(last_.size());
    return as_bytes(last_);
  }

 private:
  std::string_view rest_;
  std::size_t piece_;
  std::string last_;
};

struct ReadMember {
  TarMember member;
  std::string content;  ///< holes as zeros
};

struct Reading {
  std::vector<ReadMember> members;
  std::string stream;  ///< raw bytes and contents in their order: the archive again
  std::string error;   ///< empty: it was read to the end

  const ReadMember& only() const {
    static const ReadMember kNone;
    return members.size() == 1 ? members.front() : kNone;
  }
};

/// `most_holes`: a file with more is passed over, as what it would become is not wanted in memory.
inline Reading read_tar(std::string_view tar, std::size_t piece = 64 * 1024, TarEnd end = TarEnd::kMarked,
                        std::uint64_t most_holes = UINT64_MAX) {
  Reading reading;
  PieceSource source(tar, piece);
  TarReader reader(
      source,
      [&](std::string_view bytes) -> Result<void> {
        reading.stream += bytes;
        return {};
      },
      end);
  for (;;) {
    auto more = reader.next();
    if (!more) {
      reading.error = more.error().message();
      return reading;
    }
    if (!*more) return reading;
    ReadMember read{reader.member(), {}};
    auto take = [&](std::string_view bytes) -> Result<void> {
      read.content += bytes;
      return {};
    };
    Result<void> result;
    if (read.member.is_sparse && read.member.size > most_holes) {
      result = reader.skip_content();
    } else if (read.member.type == TarType::kRegular && read.member.is_sparse) {
      result = reader.read_sparse(take, [&](std::uint64_t size) -> Result<void> {
        read.content.append(size, '\0');
        return {};
      });
    } else if (read.member.type == TarType::kRegular) {
      // Both ways of reading, by turns.
      if (reading.members.size() % 2 == 0 && reader.stored_left() <= TarReader::kMaxWhole) {
        auto whole = reader.read_whole();
        if (whole) {
          read.content = *whole;
        } else {
          result = std::unexpected(whole.error());
        }
      } else {
        result = reader.read_pieces(take);
      }
      reading.stream += read.content;
    }
    if (!result) {
      reading.error = result.error().message();
      return reading;
    }
    reading.members.push_back(std::move(read));
  }
}

}  // namespace layerfs::image
