// SPDX-License-Identifier: Apache-2.0
// DataName: whose data, and in which kind of data file (DELTA.md).
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>

#include "fs/tree/node.h"

namespace layerfs::upper {

/// Inodes whose places are in one shared file: those of which number / kSharers is the same.
inline constexpr std::uint64_t kSharers = 64;

struct DataName {
  tree::Ino ino;
  tree::ContentKind content;  ///< kData or kShared
  constexpr bool is_shared() const { return content == tree::ContentKind::kShared; }
  bool operator==(const DataName&) const = default;
};

/// A data file: an inode's number, or that of its sharers, and which of both.
struct DataFile {
  std::uint64_t number;
  bool is_shared;
  auto operator<=>(const DataFile&) const = default;
};
struct DataFileHash {
  std::size_t operator()(const DataFile& file) const noexcept {
    return static_cast<std::size_t>((file.number << 1 | (file.is_shared ? 1U : 0U)) * 0x9E3779B97F4A7C15ULL);
  }
};
constexpr DataFile file_of(const DataName& name) {
  const std::uint64_t number = to_number(name.ino);
  return name.is_shared() ? DataFile{number / kSharers, true} : DataFile{number, false};
}
/// Where in its file it begins.
constexpr std::uint64_t start_of(const DataName& name) {
  return name.is_shared() ? to_number(name.ino) % kSharers * tree::kSharedLimit : 0;
}

}  // namespace layerfs::upper
