// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/memory_bound.h"

#include <malloc.h>

#include <algorithm>
#include <charconv>

#include "fs/base/log.h"
#include "fs/base/sys_file.h"

namespace layerfs::fuse {
namespace {

/// Between two looks at a process that is full. What was removed since may be room again.
constexpr std::chrono::milliseconds kLookAgain{100};

std::optional<std::uint64_t> find_kilobytes(std::string_view status, std::string_view field) {
  const auto at = status.find(field);
  if (at == std::string_view::npos) return std::nullopt;
  std::string_view rest = status.substr(at + field.size());
  rest.remove_prefix(std::min(rest.find_first_not_of(" \t"), rest.size()));
  std::uint64_t value = 0;
  if (std::from_chars(rest.data(), rest.data() + rest.size(), value).ec != std::errc{}) return std::nullopt;
  return value << 10;
}

}  // namespace

std::optional<std::uint64_t> parse_own_memory(std::string_view status) {
  const auto in_memory = find_kilobytes(status, "\nRssAnon:");
  if (!in_memory) return std::nullopt;
  return *in_memory + find_kilobytes(status, "\nVmSwap:").value_or(0);
}

std::optional<std::uint64_t> own_memory() {
  const auto status = read_file("/proc/self/status");
  return status ? parse_own_memory(*status) : std::nullopt;
}

bool MemoryBound::has_room(std::uint64_t size) {
  if (most_ == 0) return true;
  if (full_) {
    const Clock::rep now = Clock::now().time_since_epoch().count();
    Clock::rep last = looked_;
    if (Clock::duration(now - last) < kLookAgain || !looked_.compare_exchange_strong(last, now)) return false;
    full_ = is_full_now();
    return !full_;
  }
  const std::uint64_t kept = kept_.fetch_add(size + kEntry) + size + kEntry;
  if (kept < kLookEvery) return true;
  kept_ = 0;
  if (!is_full_now()) return true;
  looked_ = Clock::now().time_since_epoch().count();
  if (!full_.exchange(true))
    log_warning("the file system's memory has come to its bound of {} MiB: nothing new is kept", most_ >> 20);
  return false;
}

bool MemoryBound::is_full_now() {
  auto own = measure_();
  if (!own || *own <= most_) return false;
  // What was freed is the allocator's until it is told to give it back.
  ::malloc_trim(0);
  own = measure_();
  return own && *own > most_;
}

}  // namespace layerfs::fuse
