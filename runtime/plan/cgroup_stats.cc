// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/cgroup_stats.h"

#include <algorithm>
#include <charconv>
#include <limits>

namespace layerfs::plan {

namespace {

constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint64_t kMicrosecond = 1'000;  // in nanoseconds

std::vector<std::string_view> split_at(std::string_view text, std::string_view separators) {
  std::vector<std::string_view> parts;
  while (true) {
    std::size_t begin = text.find_first_not_of(separators);
    if (begin == std::string_view::npos) return parts;
    text.remove_prefix(begin);
    std::size_t end = std::min(text.find_first_of(separators), text.size());
    parts.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
}

/// "max" is no limit; what is no number is 0.
std::uint64_t to_number(std::string_view text) {
  std::uint64_t value = 0;
  if (text == "max" || text == "-1") return kNoLimit;
  if (std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc{}) return 0;
  return value;
}

std::uint64_t first_number(std::string_view text) {
  auto words = split_at(text, " \n");
  return words.empty() ? 0 : to_number(words.front());
}

/// Lines of a key and a number.
std::map<std::string, std::uint64_t> to_table(std::string_view text) {
  std::map<std::string, std::uint64_t> table;
  for (std::string_view line : split_at(text, "\n"))
    if (auto words = split_at(line, " "); words.size() == 2) table.emplace(words[0], to_number(words[1]));
  return table;
}

std::uint64_t value_in(const std::map<std::string, std::uint64_t>& table, const char* key) {
  auto found = table.find(key);
  return found == table.end() ? 0 : found->second;
}

CpuStats read_cpu_stats(const GroupReader& read) {
  CpuStats cpu;
  auto table = to_table(read("cpu.stat"));
  cpu.periods = value_in(table, "nr_periods");
  cpu.throttled_periods = value_in(table, "nr_throttled");
  std::string v1_usage = read("cpuacct.usage");
  if (v1_usage.empty()) {
    cpu.total = value_in(table, "usage_usec") * kMicrosecond;
    cpu.user = value_in(table, "user_usec") * kMicrosecond;
    cpu.kernel = value_in(table, "system_usec") * kMicrosecond;
    cpu.throttled_time = value_in(table, "throttled_usec") * kMicrosecond;
    return cpu;
  }
  cpu.total = first_number(v1_usage);
  cpu.user = first_number(read("cpuacct.usage_user"));
  cpu.kernel = first_number(read("cpuacct.usage_sys"));
  cpu.throttled_time = value_in(table, "throttled_time");
  std::string per_cpu = read("cpuacct.usage_percpu");
  for (std::string_view word : split_at(per_cpu, " \n")) cpu.per_cpu.push_back(to_number(word));
  return cpu;
}

UsageStats read_usage_v1(const GroupReader& read, const std::string& prefix) {
  return {first_number(read(prefix + "limit_in_bytes")), first_number(read(prefix + "usage_in_bytes")),
          first_number(read(prefix + "max_usage_in_bytes")), first_number(read(prefix + "failcnt"))};
}

std::uint64_t add_limits(std::uint64_t one, std::uint64_t other) {
  return one > kNoLimit - other ? kNoLimit : one + other;
}

MemoryStats read_memory_stats(const GroupReader& read) {
  MemoryStats stats;
  stats.raw = to_table(read("memory.stat"));
  if (!read("memory.usage_in_bytes").empty()) {
    stats.cache = value_in(stats.raw, "cache");
    stats.memory = read_usage_v1(read, "memory.");
    stats.swap = read_usage_v1(read, "memory.memsw.");
    stats.kernel = read_usage_v1(read, "memory.kmem.");
    return stats;
  }
  stats.cache = value_in(stats.raw, "file");
  auto events = to_table(read("memory.events"));
  stats.memory = {first_number(read("memory.max")), first_number(read("memory.current")),
                  first_number(read("memory.peak")), value_in(events, "max")};
  // v2 counts swap alone.
  stats.swap = {add_limits(stats.memory.limit, first_number(read("memory.swap.max"))),
                stats.memory.usage + first_number(read("memory.swap.current")),
                stats.memory.max + first_number(read("memory.swap.peak")),
                value_in(to_table(read("memory.swap.events")), "max")};
  stats.kernel.usage = value_in(stats.raw, "kernel");
  return stats;
}

bool read_device(std::string_view word, BlockEntry& to) {
  std::size_t colon = word.find(':');
  if (colon == std::string_view::npos) return false;
  to.major = to_number(word.substr(0, colon));
  to.minor = to_number(word.substr(colon + 1));
  return true;
}

/// v1: "8:0 Read 4096", and a last line of the total.
std::vector<BlockEntry> read_block_v1(std::string_view text) {
  std::vector<BlockEntry> list;
  for (std::string_view line : split_at(text, "\n")) {
    auto words = split_at(line, " ");
    BlockEntry entry;
    if (words.size() != 3 || !read_device(words[0], entry)) continue;
    entry.operation = words[1];
    entry.value = to_number(words[2]);
    list.push_back(std::move(entry));
  }
  return list;
}

/// v2: "8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0".
void read_io_stat(std::string_view text, CgroupStats& to) {
  struct Field {
    std::string_view key;
    const char* operation;
    bool bytes;
  };
  constexpr Field kFields[] = {{"rbytes=", "Read", true},    {"wbytes=", "Write", true},
                               {"dbytes=", "Discard", true}, {"rios=", "Read", false},
                               {"wios=", "Write", false},    {"dios=", "Discard", false}};
  for (std::string_view line : split_at(text, "\n")) {
    auto words = split_at(line, " ");
    BlockEntry entry;
    if (words.empty() || !read_device(words[0], entry)) continue;
    for (std::string_view word : words)
      for (const auto& field : kFields) {
        if (!word.starts_with(field.key)) continue;
        entry.operation = field.operation;
        entry.value = to_number(word.substr(field.key.size()));
        (field.bytes ? to.block_bytes : to.block_operations).push_back(entry);
      }
  }
}

/// The first that has anything: which files count depends on the I/O scheduler.
std::vector<BlockEntry> read_first_block_v1(const GroupReader& read,
                                            std::initializer_list<const char*> files) {
  for (const char* file : files)
    if (auto list = read_block_v1(read(file)); !list.empty()) return list;
  return {};
}

}  // namespace

CgroupStats read_cgroup_stats(const GroupReader& read, const std::vector<std::string>& page_sizes) {
  CgroupStats stats;
  stats.cpu = read_cpu_stats(read);
  stats.memory = read_memory_stats(read);
  stats.pids = first_number(read("pids.current"));
  stats.pids_limit = first_number(read("pids.max"));
  if (stats.pids_limit == kNoLimit) stats.pids_limit = 0;
  stats.block_bytes = read_first_block_v1(
      read, {"blkio.bfq.io_service_bytes_recursive", "blkio.io_service_bytes_recursive",
             "blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"});
  stats.block_operations =
      read_first_block_v1(read, {"blkio.bfq.io_serviced_recursive", "blkio.io_serviced_recursive",
                                 "blkio.throttle.io_serviced_recursive", "blkio.throttle.io_serviced"});
  if (stats.block_bytes.empty() && stats.block_operations.empty()) read_io_stat(read("io.stat"), stats);
  for (const auto& size : page_sizes) {
    std::string prefix = "hugetlb." + size + '.';
    std::string v1_usage = read(prefix + "usage_in_bytes");
    std::string v2_usage = read(prefix + "current");
    if (!v1_usage.empty())
      stats.hugepages[size] = read_usage_v1(read, prefix);
    else if (!v2_usage.empty())
      stats.hugepages[size] = {first_number(read(prefix + "max")), first_number(v2_usage), 0,
                               value_in(to_table(read(prefix + "events")), "max")};
  }
  return stats;
}

}  // namespace layerfs::plan
