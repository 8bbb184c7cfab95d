// SPDX-License-Identifier: Apache-2.0
// MemoryBound: the most memory that a server may have for itself. What a file system keeps in its server's
// memory (names, links, attributes) is at the cost of whoever makes it, where a limit is set for that one: a
// change that would keep more is answered with ENOSPC.
//
// (1) Any thread.
// (2) The process is measured once for each kLookEvery bytes of changes, and now and then while it is full. A
//     bound is passed by no more than that.
// (3) What cannot be measured is no bound.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

namespace layerfs::fuse {

/// Of a text of /proc/PID/status (proc(5)): the bytes that are the process's own, in memory or in swap space.
std::optional<std::uint64_t> parse_own_memory(std::string_view status);
/// This process's.
std::optional<std::uint64_t> own_memory();

class MemoryBound {
 public:
  static constexpr std::uint64_t kLookEvery = std::uint64_t{1} << 20;
  /// What an entry takes without its name and its attributes, about.
  static constexpr std::uint64_t kEntry = 512;
  using Measure = std::function<std::optional<std::uint64_t>()>;

  /// `most`: in bytes; 0: as much as there is.
  explicit MemoryBound(std::uint64_t most, Measure measure = own_memory)
      : most_(most), measure_(std::move(measure)) {}

  /// Whether a change that keeps `size` bytes more may be made.
  bool has_room(std::uint64_t size);

 private:
  using Clock = std::chrono::steady_clock;
  bool is_full_now();

  const std::uint64_t most_;
  const Measure measure_;
  std::atomic<std::uint64_t> kept_ = 0;  // since the last look
  std::atomic<bool> full_ = false;
  std::atomic<Clock::rep> looked_ = 0;  // while it is full
};

}  // namespace layerfs::fuse
