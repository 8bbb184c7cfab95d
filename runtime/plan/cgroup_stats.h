// SPDX-License-Identifier: Apache-2.0
// What a container's groups have used and may use, out of the texts of their files, as values: for `events`.
// Pure: the texts come from a function.
//
// (1) v1 and v2 give the same value the same unit: nanoseconds, bytes, counts.
// (2) A file that is not there, or has another form, leaves its values at 0 and its lists empty.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace layerfs::plan {

struct CpuStats {
  std::uint64_t total = 0;  ///< nanoseconds
  std::uint64_t user = 0;
  std::uint64_t kernel = 0;
  std::vector<std::uint64_t> per_cpu;  ///< v1 only
  std::uint64_t periods = 0;
  std::uint64_t throttled_periods = 0;
  std::uint64_t throttled_time = 0;  ///< nanoseconds
};

struct UsageStats {
  std::uint64_t limit = 0;  ///< the largest number where there is none
  std::uint64_t usage = 0;
  std::uint64_t max = 0;
  std::uint64_t failures = 0;
};

struct MemoryStats {
  std::uint64_t cache = 0;
  UsageStats memory;
  UsageStats swap;  ///< memory plus swap, as v1 counts
  UsageStats kernel;
  std::map<std::string, std::uint64_t> raw;  ///< memory.stat
};

struct BlockEntry {
  std::uint64_t major = 0;
  std::uint64_t minor = 0;
  std::string operation;  ///< "Read", "Write"...
  std::uint64_t value = 0;
  bool operator==(const BlockEntry&) const = default;
};

struct CgroupStats {
  CpuStats cpu;
  MemoryStats memory;
  std::uint64_t pids = 0;
  std::uint64_t pids_limit = 0;  ///< 0: none
  std::vector<BlockEntry> block_bytes;
  std::vector<BlockEntry> block_operations;
  std::map<std::string, UsageStats> hugepages;  ///< by size, "2MB"
};

/// The text of a file of the container's groups; empty where none has it.
using GroupReader = std::function<std::string(const std::string& file)>;

/// `page_sizes`: "2MB"...
CgroupStats read_cgroup_stats(const GroupReader& read, const std::vector<std::string>& page_sizes);

}  // namespace layerfs::plan
