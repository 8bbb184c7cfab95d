// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/cgroup_stats.h"

#include <gtest/gtest.h>

#include <limits>

namespace layerfs::plan {
namespace {

constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();

GroupReader files(std::map<std::string, std::string> texts) {
  return [texts = std::move(texts)](const std::string& file) {
    auto found = texts.find(file);
    return found == texts.end() ? std::string() : found->second;
  };
}

TEST(CgroupStats, ReadsV1) {
  auto stats = read_cgroup_stats(
      files({{"cpuacct.usage", "1500\n"},
             {"cpuacct.usage_user", "1000\n"},
             {"cpuacct.usage_sys", "500\n"},
             {"cpuacct.usage_percpu", "700 800 \n"},
             // A hybrid host has a file of this name in both versions.
             {"cpu.stat", "nr_periods 10\nnr_throttled 4\nthrottled_time 77\nusage_usec 9\n"},
             {"memory.usage_in_bytes", "4096\n"},
             {"memory.limit_in_bytes", "65536\n"},
             {"memory.max_usage_in_bytes", "8192\n"},
             {"memory.failcnt", "3\n"},
             {"memory.memsw.limit_in_bytes", "131072\n"},
             {"memory.stat", "cache 100\nrss 200\n"},
             {"pids.current", "2\n"},
             {"pids.max", "50\n"},
             {"blkio.throttle.io_service_bytes", "8:0 Read 4096\n8:0 Total 4096\nTotal 4096\n"},
             {"hugetlb.2MB.usage_in_bytes", "0\n"},
             {"hugetlb.2MB.limit_in_bytes", "2097152\n"}}),
      {"2MB", "1GB"});
  EXPECT_EQ(stats.cpu.total, 1500U);
  EXPECT_EQ(stats.cpu.user, 1000U);
  EXPECT_EQ(stats.cpu.kernel, 500U);
  EXPECT_EQ(stats.cpu.per_cpu, (std::vector<std::uint64_t>{700, 800}));
  EXPECT_EQ(stats.cpu.periods, 10U);
  EXPECT_EQ(stats.cpu.throttled_periods, 4U);
  EXPECT_EQ(stats.cpu.throttled_time, 77U);
  EXPECT_EQ(stats.memory.memory.limit, 65536U);
  EXPECT_EQ(stats.memory.memory.usage, 4096U);
  EXPECT_EQ(stats.memory.memory.max, 8192U);
  EXPECT_EQ(stats.memory.memory.failures, 3U);
  EXPECT_EQ(stats.memory.swap.limit, 131072U);
  EXPECT_EQ(stats.memory.cache, 100U);
  EXPECT_EQ(stats.memory.raw.at("rss"), 200U);
  EXPECT_EQ(stats.pids, 2U);
  EXPECT_EQ(stats.pids_limit, 50U);
  EXPECT_EQ(stats.block_bytes, (std::vector<BlockEntry>{{8, 0, "Read", 4096}, {8, 0, "Total", 4096}}));
  ASSERT_EQ(stats.hugepages.size(), 1U);
  EXPECT_EQ(stats.hugepages.at("2MB").limit, 2097152U);
}

TEST(CgroupStats, ReadsV2InTheSameUnits) {
  auto stats = read_cgroup_stats(
      files(
          {{"cpu.stat",
            "usage_usec 15\nuser_usec 10\nsystem_usec 5\nnr_periods 10\nnr_throttled 4\nthrottled_usec 2\n"},
           {"memory.current", "4096\n"},
           {"memory.max", "max\n"},
           {"memory.peak", "8192\n"},
           {"memory.swap.current", "1024\n"},
           {"memory.swap.max", "max\n"},
           {"memory.stat", "anon 1\nfile 100\nkernel 7\n"},
           {"memory.events", "low 0\nmax 3\noom_kill 1\n"},
           {"pids.current", "2\n"},
           {"pids.max", "max\n"},
           {"io.stat", "8:0 rbytes=4096 wbytes=1 rios=2 wios=3 dbytes=0 dios=0\nbad\n"}}),
      {});
  EXPECT_EQ(stats.cpu.total, 15'000U);
  EXPECT_EQ(stats.cpu.user, 10'000U);
  EXPECT_EQ(stats.cpu.throttled_time, 2'000U);
  EXPECT_TRUE(stats.cpu.per_cpu.empty());
  EXPECT_EQ(stats.memory.memory.limit, kNoLimit);
  EXPECT_EQ(stats.memory.memory.failures, 3U);
  EXPECT_EQ(stats.memory.swap.limit, kNoLimit) << "no overflow of the sum";
  EXPECT_EQ(stats.memory.swap.usage, 5120U) << "memory plus swap, as v1 counts";
  EXPECT_EQ(stats.memory.cache, 100U);
  EXPECT_EQ(stats.memory.kernel.usage, 7U);
  EXPECT_EQ(stats.pids_limit, 0U);
  ASSERT_EQ(stats.block_bytes.size(), 3U);
  EXPECT_EQ(stats.block_bytes[0], (BlockEntry{8, 0, "Read", 4096}));
  EXPECT_EQ(stats.block_operations[1], (BlockEntry{8, 0, "Write", 3}));
}

TEST(CgroupStats, TakesAnything) {
  for (const char* text : {"", "\n", "x", "a b c d", "8: x", ":", "99999999999999999999999 1", "-5"}) {
    auto stats = read_cgroup_stats([&](const std::string&) { return std::string(text); }, {"2MB"});
    EXPECT_EQ(stats.cpu.periods, 0U);
  }
}

}  // namespace
}  // namespace layerfs::plan
