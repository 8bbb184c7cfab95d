// SPDX-License-Identifier: Apache-2.0
// DataName: whose data, and in which kind of data file (DELTA.md).
#pragma once

#include <cstdint>

#include "fs/tree/node.h"

namespace layerfs::upper {

/// Inodes whose places are in one shared file: those of which number / kSharers is the same.
inline constexpr std::uint64_t kSharers = 64;

struct DataName {
  tree::Ino ino;
  tree::ContentKind content;  ///< kData or kShared
  bool is_shared() const { return content == tree::ContentKind::kShared; }
  bool operator==(const DataName&) const = default;
};

}  // namespace layerfs::upper
