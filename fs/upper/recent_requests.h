// SPDX-License-Identifier: Apache-2.0
// RecentRequests: the numbers of the latest requests, for was_applied(). One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace layerfs::upper {

class RecentRequests {
 public:
  /// A resent request was in flight when the server died; no more than this can have been.
  static constexpr std::size_t kKept = 65536;
  /// 0: no request.
  void add(std::uint64_t request);
  bool contains(std::uint64_t request) const;
  /// The latest `count` of them, oldest first.
  std::vector<std::uint64_t> latest(std::size_t count) const;

 private:
  std::vector<std::uint64_t> ring_;
  std::size_t next_ = 0;
};

}  // namespace layerfs::upper
