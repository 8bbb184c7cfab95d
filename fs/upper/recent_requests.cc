// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/recent_requests.h"

#include <algorithm>

namespace layerfs::upper {

void RecentRequests::add(std::uint64_t request) {
  if (request == 0) return;
  if (ring_.size() < kKept) {
    ring_.push_back(request);
    return;
  }
  ring_[next_] = request;
  next_ = (next_ + 1) % kKept;
}

bool RecentRequests::contains(std::uint64_t request) const {
  return request != 0 && std::find(ring_.begin(), ring_.end(), request) != ring_.end();
}

std::vector<std::uint64_t> RecentRequests::latest(std::size_t count) const {
  const std::size_t given = std::min(count, ring_.size());
  std::vector<std::uint64_t> requests(given);
  for (std::size_t i = 0; i < given; ++i)
    requests[i] = ring_[(next_ + ring_.size() - given + i) % ring_.size()];
  return requests;
}

}  // namespace layerfs::upper
