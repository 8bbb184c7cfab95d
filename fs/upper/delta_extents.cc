// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/delta_extents.h"

#include <algorithm>
#include <iterator>

namespace layerfs::upper {

bool DeltaExtents::add(std::uint64_t offset, std::uint64_t length) {
  if (length == 0) return false;
  std::uint64_t begin = offset;
  std::uint64_t end = offset + length;
  auto next = ends_.upper_bound(begin);
  if (next != ends_.begin()) {
    auto before = std::prev(next);
    if (before->second >= begin) {  // overlaps or touches
      if (before->second >= end) return false;
      before->second = end;
      begin = before->first;
    }
  }
  while (next != ends_.end() && next->first <= end) {
    end = std::max(end, next->second);
    next = ends_.erase(next);
  }
  ends_[begin] = end;
  return true;
}

void DeltaExtents::trim(std::uint64_t size) {
  ends_.erase(ends_.lower_bound(size), ends_.end());
  if (!ends_.empty()) {
    auto last = std::prev(ends_.end());
    last->second = std::min(last->second, size);
  }
}

void DeltaExtents::assign(const std::vector<tree::Extent>& extents) {
  ends_.clear();
  for (const tree::Extent& extent : extents)
    ends_.emplace_hint(ends_.end(), extent.offset, extent.offset + extent.length);
}

std::vector<tree::Extent> DeltaExtents::list() const {
  std::vector<tree::Extent> extents;
  extents.reserve(ends_.size());
  for (const auto& [offset, end] : ends_) extents.push_back({offset, end - offset});
  return extents;
}

std::vector<tree::Extent> DeltaExtents::list_within(std::uint64_t begin, std::uint64_t end) const {
  std::vector<tree::Extent> extents;
  auto at = ends_.upper_bound(begin);
  if (at != ends_.begin() && std::prev(at)->second > begin) --at;
  for (; at != ends_.end() && at->first < end; ++at) extents.push_back({at->first, at->second - at->first});
  return extents;
}

}  // namespace layerfs::upper
