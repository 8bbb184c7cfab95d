// SPDX-License-Identifier: Apache-2.0
// DeltaExtents: the byte ranges of one file that come from its data file. Plain data; the owner locks.
//
// (1) Sorted, disjoint, not touching, none empty.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "fs/tree/upper_layer.h"

namespace layerfs::upper {

class DeltaExtents {
 public:
  /// False where it was all there. Requires: offset + length is a valid file position.
  bool add(std::uint64_t offset, std::uint64_t length);
  /// Drops what lies at or beyond `size`.
  void trim(std::uint64_t size);
  void assign(const std::vector<tree::Extent>& extents);
  std::vector<tree::Extent> list() const;
  /// Those that overlap [begin, end), whole.
  std::vector<tree::Extent> list_within(std::uint64_t begin, std::uint64_t end) const;
  bool empty() const { return ends_.empty(); }

 private:
  std::map<std::uint64_t, std::uint64_t> ends_;  // offset -> end
};

}  // namespace layerfs::upper
