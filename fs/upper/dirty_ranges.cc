// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/dirty_ranges.h"

#include <algorithm>
#include <utility>

namespace layerfs::upper {

void DirtyRanges::add(const tree::WrittenRange& range) {
  if (!known_ || range.length == 0) return;
  std::uint64_t begin = range.offset;
  std::uint64_t end = range.offset + range.length;
  // Those that it touches become one with it.
  std::erase_if(ranges_, [&](const tree::WrittenRange& one) {
    if (one.ino != range.ino || one.offset > end || one.offset + one.length < begin) return false;
    begin = std::min(begin, one.offset);
    end = std::max(end, one.offset + one.length);
    bytes_ -= one.length;
    return true;
  });
  ranges_.push_back({range.ino, begin, end - begin});
  bytes_ += end - begin;
  if (bytes_ > kMaxBytes || ranges_.size() > kMaxRanges) add_unknown();
}

void DirtyRanges::add_unknown() {
  known_ = false;
  ranges_.clear();
  bytes_ = 0;
}

std::optional<std::vector<tree::WrittenRange>> DirtyRanges::take() {
  std::optional<std::vector<tree::WrittenRange>> taken;
  if (known_) taken = std::move(ranges_);
  ranges_.clear();
  bytes_ = 0;
  known_ = true;
  return taken;
}

}  // namespace layerfs::upper
