// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "runtime/plan/cgroup_plan.h"

namespace layerfs::plan {
namespace {

constexpr const char* kV1Mounts =
    "31 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
    "34 30 0:31 / /sys/fs/cgroup/memory rw,relatime shared:5 - cgroup cgroup rw,memory\n"
    "38 30 0:35 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
    "35 30 0:36 /job /odd\\040place rw - cgroup cgroup rw,devices\n"
    "39 30 0:36 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
    "40 30 0:37 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
constexpr const char* kV1Self =
    "9:name=systemd:/\n8:pids:/\n5:devices:/job/a\n4:memory:/api/x\n2:cpu,cpuacct:/\n0::/s\n";
constexpr const char* kV2Mounts = "30 22 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";

CgroupLayout v1() { return parse_cgroup_layout(parse_mount_info(kV1Mounts), kV1Self); }
CgroupLayout v2() { return parse_cgroup_layout(parse_mount_info(kV2Mounts), "0::/user.slice/app\n"); }

const CgroupGroup* group_of(const CgroupPlan& plan, std::string_view mount_point) {
  for (const auto& group : plan.groups)
    if (group.hierarchy.mount_point == mount_point) return &group;
  return nullptr;
}

std::string value_of(const CgroupPlan& plan, std::string_view file) {
  for (const auto& group : plan.groups)
    for (const auto& write : group.writes)
      if (write.file == file) return write.value;
  return "(not written)";
}

TEST(CgroupLayout, KnowsHierarchiesAndTheCallersGroups) {
  CgroupLayout layout = v1();
  ASSERT_EQ(layout.hierarchies.size(), 6U);
  EXPECT_FALSE(layout.unified_only());
  EXPECT_EQ(layout.find_v1("cpuacct")->mount_point, "/sys/fs/cgroup/cpu,cpuacct");
  EXPECT_EQ(layout.find_v1("memory")->own_path, "/api/x");
  EXPECT_EQ(layout.find_v1("devices")->mount_point, "/odd place");
  EXPECT_EQ(layout.find_v1("devices")->own_path, "/a") << "a mount of a subtree shows paths below it";
  EXPECT_EQ(layout.find_unified()->own_path, "/s");
  EXPECT_TRUE(v2().unified_only());
}

TEST(CgroupLayout, TakesAnything) {
  for (const char* text :
       {"", "\n\n", "x", "1 2 3 - cgroup", " - cgroup cgroup rw", "a b c d e f - cgroup2 x y"})
    parse_cgroup_layout(parse_mount_info(text), text);
  EXPECT_TRUE(parse_cgroup_layout(parse_mount_info(""), "").hierarchies.empty());
  EXPECT_FALSE(parse_cgroup_layout(parse_mount_info(""), "").unified_only());
}

TEST(CgroupPlan, MemoryBeforeSwapOnV1) {
  spec::Resources resources;
  resources.memory_limit = 100;
  resources.memory_swap = 300;
  auto plan = plan_cgroup(resources, v1(), "layerfs-x", CgroupExtent::kNeeded);
  ASSERT_TRUE(plan);
  ASSERT_EQ(plan->groups.size(), 1U) << "a group only where something is limited";
  const auto& writes = plan->groups[0].writes;
  ASSERT_EQ(writes.size(), 2U);
  EXPECT_EQ(writes[0].file, "memory.limit_in_bytes");
  EXPECT_EQ(writes[1].file, "memory.memsw.limit_in_bytes");
}

TEST(CgroupPlan, V2CountsSwapAlone) {
  spec::Resources resources;
  resources.memory_limit = 100;
  resources.memory_swap = 300;
  resources.memory_reservation = 50;
  auto plan = plan_cgroup(resources, v2(), "layerfs-x", CgroupExtent::kNeeded);
  ASSERT_TRUE(plan);
  EXPECT_EQ(value_of(*plan, "memory.max"), "100");
  EXPECT_EQ(value_of(*plan, "memory.swap.max"), "200");
  EXPECT_EQ(value_of(*plan, "memory.low"), "50");
  EXPECT_EQ(plan->groups.at(0).controllers, (std::vector<std::string>{"memory"}));
}

TEST(CgroupPlan, UnlimitedHasAWordOfItsOwn) {
  spec::Resources resources;
  resources.memory_limit = -1;
  resources.memory_swap = -1;
  resources.pids_limit = -1;
  EXPECT_EQ(value_of(*plan_cgroup(resources, v1(), "x", CgroupExtent::kNeeded), "memory.limit_in_bytes"),
            "-1");
  auto plan = plan_cgroup(resources, v2(), "x", CgroupExtent::kNeeded);
  EXPECT_EQ(value_of(*plan, "memory.max"), "max");
  EXPECT_EQ(value_of(*plan, "memory.swap.max"), "max");
  EXPECT_EQ(value_of(*plan, "pids.max"), "max");
}

TEST(CgroupPlan, CpuOnBoth) {
  spec::Resources resources;
  resources.cpu_quota = 25000;
  resources.cpu_period = 100000;
  resources.cpu_shares = 1024;
  auto old = plan_cgroup(resources, v1(), "x", CgroupExtent::kNeeded);
  EXPECT_EQ(value_of(*old, "cpu.cfs_quota_us"), "25000");
  EXPECT_EQ(value_of(*old, "cpu.shares"), "1024");
  auto unified = plan_cgroup(resources, v2(), "x", CgroupExtent::kNeeded);
  EXPECT_EQ(value_of(*unified, "cpu.max"), "25000 100000");
  EXPECT_EQ(value_of(*unified, "cpu.weight"), "100");
}

TEST(CgroupPlan, WeightsCoverTheWholeRange) {
  EXPECT_EQ(cpu_weight(2), 1U);
  EXPECT_EQ(cpu_weight(1024), 100U);
  EXPECT_EQ(cpu_weight(262144), 10000U);
  EXPECT_EQ(cpu_weight(0), 1U);
  EXPECT_EQ(cpu_weight(~0ULL), 10000U);
}

TEST(CgroupPlan, BlockWeightsMayBeThoseOfBfq) {
  spec::Resources resources;
  resources.block_io.weight = 500;
  resources.block_io.device_weights = {{.major = 8, .minor = 0, .weight = 20}};
  auto writes = [&](const CgroupLayout& layout) {
    std::vector<CgroupWrite> all;
    auto plan = plan_cgroup(resources, layout, "x", CgroupExtent::kNeeded);
    for (const auto& group : plan->groups) all.insert(all.end(), group.writes.begin(), group.writes.end());
    return all;
  };
  const std::string field = "linux.resources.blockIO.";
  auto old =
      parse_cgroup_layout(parse_mount_info("1 1 0:1 / /b rw - cgroup cgroup rw,blkio\n"), "1:blkio:/\n");
  EXPECT_EQ(writes(old), (std::vector<CgroupWrite>{
                             {"blkio.weight", "500", field + "weight", false, "blkio.bfq.weight", "500"},
                             {"blkio.weight_device", "8:0 20", field + "weightDevice", false,
                              "blkio.bfq.weight_device", "8:0 20"}}));
  EXPECT_EQ(writes(v2()),
            (std::vector<CgroupWrite>{
                {"io.weight", "default 4950", field + "weight", false, "io.bfq.weight", "default 500"},
                {"io.weight", "8:0 102", field + "weightDevice", false, "io.bfq.weight", "8:0 20"}}));
}

TEST(CgroupPlan, ThrottlesOnBoth) {
  spec::Resources resources;
  resources.block_io.read_bps = {{8, 0, 2097152}};
  EXPECT_EQ(value_of(*plan_cgroup(resources, v2(), "x", CgroupExtent::kNeeded), "io.max"),
            "8:0 rbps=2097152");
  auto layout =
      parse_cgroup_layout(parse_mount_info("1 1 0:1 / /b rw - cgroup cgroup rw,blkio\n"), "1:blkio:/\n");
  EXPECT_EQ(
      value_of(*plan_cgroup(resources, layout, "x", CgroupExtent::kNeeded), "blkio.throttle.read_bps_device"),
      "8:0 2097152");
}

std::vector<std::string> files_of(const CgroupPlan& plan) {
  std::vector<std::string> files;
  for (const auto& group : plan.groups)
    for (const auto& write : group.writes) files.push_back(write.file + '=' + write.value);
  return files;
}

using Files = std::vector<std::string>;

TEST(CgroupPlan, AServerIsInNoGroupWhereNothingOfItsIsLimited) {
  spec::Resources resources;
  resources.pids_limit = 5;
  EXPECT_FALSE(plan_served_cgroup(*plan_cgroup(resources, v2(), "x", CgroupExtent::kNeeded)));
}

TEST(CgroupPlan, MemoryIsLimitedForContainerAndServerTogether) {
  spec::Resources resources;
  resources.memory_limit = 1 << 20;
  resources.memory_swap = 1 << 20;
  resources.pids_limit = 5;
  auto plan = plan_served_cgroup(*plan_cgroup(resources, v2(), "x", CgroupExtent::kNeeded));
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->whole.path, "x");
  EXPECT_EQ(files_of(plan->whole), (Files{"memory.max=1048576", "memory.swap.max=0"}));
  ASSERT_EQ(plan->whole.groups.size(), 1U);
  EXPECT_EQ(plan->whole.groups[0].controllers, (Files{"memory", "pids"})) << "what those below have";
  // Programs look at their own group for what they may use.
  EXPECT_EQ(files_of(plan->container), (Files{"memory.max=1048576", "memory.swap.max=0", "pids.max=5"}));
  ASSERT_EQ(plan->files.groups.size(), 1U);
  EXPECT_TRUE(plan->files.groups[0].writes.empty());
  EXPECT_EQ(files_of(plan_without_memory_limit(plan->whole)),
            (Files{"memory.max=max", "memory.swap.max=max"}));
}

TEST(CgroupPlan, OnV1TheServerIsWhereTheMemoryIsLimitedAndNowhereElse) {
  spec::Resources resources;
  resources.memory_limit = 1 << 20;
  resources.pids_limit = 5;
  auto layout = parse_cgroup_layout(
      parse_mount_info(
          "1 1 0:1 / /m rw - cgroup cgroup rw,memory\n2 1 0:2 / /p rw - cgroup cgroup rw,pids\n"),
      "2:memory:/\n1:pids:/\n");
  auto plan = plan_served_cgroup(*plan_cgroup(resources, layout, "x", CgroupExtent::kNeeded));
  ASSERT_TRUE(plan);
  EXPECT_EQ(files_of(plan->whole), (Files{"memory.use_hierarchy=1", "memory.limit_in_bytes=1048576"}));
  EXPECT_EQ(plan->whole.groups.size(), 2U) << "the container is below it everywhere";
  ASSERT_EQ(plan->files.groups.size(), 1U);
  EXPECT_EQ(plan->files.groups[0].hierarchy.mount_point, "/m");
  EXPECT_EQ(files_of(plan_without_memory_limit(plan->whole)), Files{"memory.limit_in_bytes=-1"});
}

TEST(CgroupPlan, TheServerHasTheContainersWeightAndDisksAndNoQuotaOfProcessorTime) {
  spec::Resources resources;
  resources.cpu_quota = 50'000;
  resources.cpu_shares = 1024;
  resources.block_io.write_bps = {{8, 16, 1000}};
  auto plan = plan_served_cgroup(*plan_cgroup(resources, v2(), "x", CgroupExtent::kNeeded));
  ASSERT_TRUE(plan);
  EXPECT_EQ(files_of(plan->whole), Files{"cpu.weight=100"});
  EXPECT_EQ(files_of(plan->container),
            (Files{"cpu.weight=100", "cpu.max=50000 100000", "io.max=8:16 wbps=1000"}));
  EXPECT_EQ(files_of(plan->files), (Files{"cpu.weight=100", "io.max=8:16 wbps=1000"}));
  ASSERT_EQ(plan->files.groups.size(), 1U);
  EXPECT_EQ(plan->files.groups[0].controllers, (Files{"io", "memory"}));
  EXPECT_EQ(plan->whole.groups[0].controllers, (Files{"cpu", "io", "memory"}));
}

TEST(CgroupPlan, DeviceRulesEndWithWhatEveryContainerMay) {
  spec::Resources resources;
  resources.devices = {{false, 'a', {}, {}, "rwm"}};
  auto plan = plan_cgroup(resources, v1(), "x", CgroupExtent::kNeeded);
  ASSERT_TRUE(plan);
  const CgroupGroup* group = group_of(*plan, "/odd place");
  ASSERT_NE(group, nullptr);
  EXPECT_EQ(group->writes.front().file, "devices.deny");
  EXPECT_EQ(group->writes.front().value, "a");
  EXPECT_EQ(group->writes.back().value, "c 136:* rwm");
  EXPECT_EQ(device_line({true, 'c', 1, 3, "rw"}), "c 1:3 rw");
  EXPECT_EQ(device_line({true, 'u', {}, 3, ""}), "c *:3 rwm");
}

TEST(CgroupPlan, DeviceRulesAreAProgramOnV2) {
  spec::Resources resources;
  resources.devices = {{false, 'a', {}, {}, "rwm"}};
  auto plan = plan_cgroup(resources, v2(), "x", CgroupExtent::kNeeded);
  ASSERT_TRUE(plan);
  ASSERT_EQ(plan->groups.size(), 1U);
  EXPECT_TRUE(plan->groups[0].writes.empty());
  EXPECT_TRUE(plan->groups[0].controllers.empty()) << "it needs no controller";
  EXPECT_GT(plan->groups[0].device_program.size(), 30U) << "what every container may is in it, too";
  resources.devices = {{true, 'c', std::int64_t{1} << 40, {}, "r"}};
  auto wrong = plan_cgroup(resources, v2(), "x", CgroupExtent::kNeeded);
  ASSERT_FALSE(wrong);
  EXPECT_NE(wrong.error().message().find("linux.resources.devices"), std::string::npos);
}

TEST(CgroupPlan, AllMakesAGroupEverywhere) {
  auto plan = plan_cgroup({}, v1(), "/x", CgroupExtent::kAll);
  ASSERT_EQ(plan->groups.size(), 6U);
  for (const auto& group : plan->groups) EXPECT_EQ(group.every_controller, group.hierarchy.unified);
  EXPECT_EQ(plan_cgroup({}, v1(), "/x", CgroupExtent::kNeeded)->groups.size(), 0U);
}

TEST(CgroupPlan, WhatTheHostLacksIsNamed) {
  spec::Resources resources;
  resources.pids_limit = 5;
  auto plan = plan_cgroup(resources, CgroupLayout{}, "x", CgroupExtent::kNeeded);
  ASSERT_FALSE(plan);
  EXPECT_NE(plan.error().message().find("linux.resources.pids.limit"), std::string::npos);
  resources = {};
  resources.disable_oom_killer = true;
  EXPECT_FALSE(plan_cgroup(resources, v2(), "x", CgroupExtent::kNeeded));
  resources = {};
  resources.unified["memory.high"] = "5";
  EXPECT_FALSE(plan_cgroup(resources, v1(), "x", CgroupExtent::kNeeded));
  EXPECT_EQ(value_of(*plan_cgroup(resources, v2(), "x", CgroupExtent::kNeeded), "memory.high"), "5");
}

TEST(CgroupPlan, RarerLimitsOnV1) {
  spec::Resources resources;
  resources.cpu_burst = 500;
  resources.memory_swappiness = 7;
  EXPECT_EQ(value_of(*plan_cgroup(resources, v1(), "x", CgroupExtent::kNeeded), "cpu.cfs_burst_us"), "500");
  EXPECT_EQ(value_of(*plan_cgroup(resources, v1(), "x", CgroupExtent::kNeeded), "memory.swappiness"), "7");
}

TEST(CgroupPlan, LimitsOfKernelMemoryAreLeftOutWithAWord) {
  spec::Resources resources;
  resources.memory_kernel = 4096;
  resources.memory_kernel_tcp = 4096;
  for (const auto& layout : {v1(), v2()}) {
    auto plan = plan_cgroup(resources, layout, "x", CgroupExtent::kNeeded);
    ASSERT_TRUE(plan) << plan.error().message();
    EXPECT_TRUE(plan->groups.empty());
    ASSERT_EQ(plan->warnings.size(), 2U);
    EXPECT_NE(plan->warnings[0].find("memory.kernel"), std::string::npos);
    EXPECT_NE(plan->warnings[1].find("memory.kernelTCP"), std::string::npos);
  }
  resources.memory_kernel = resources.memory_kernel_tcp = -1;  // no limit is what there is
  EXPECT_TRUE(plan_cgroup(resources, v2(), "x", CgroupExtent::kNeeded)->warnings.empty());
}

TEST(CgroupPlan, RarerLimitsOnV2) {
  spec::Resources resources;
  resources.cpu_burst = 500;
  resources.rdma["mlx5_0"] = {3, 10};
  resources.block_io.device_weights = {{8, 0, 1000, std::nullopt}};
  auto plan = plan_cgroup(resources, v2(), "x", CgroupExtent::kNeeded);
  ASSERT_TRUE(plan);
  EXPECT_EQ(value_of(*plan, "cpu.max.burst"), "500");
  EXPECT_EQ(value_of(*plan, "rdma.max"), "mlx5_0 hca_handle=3 hca_object=10");
  EXPECT_EQ(value_of(*plan, "io.weight"), "8:0 10000");
}

TEST(CgroupPlan, WhatV2LacksIsNamed) {
  auto refused = [](auto set) {
    spec::Resources resources;
    set(resources);
    auto plan = plan_cgroup(resources, v2(), "x", CgroupExtent::kNeeded);
    return plan ? std::string("(accepted)") : plan.error().message();
  };
  EXPECT_NE(refused([](auto& to) { to.memory_swappiness = 7; }).find("memory.swappiness"), std::string::npos);
  EXPECT_NE(refused([](auto& to) { to.block_io.leaf_weight = 500; }).find("leafWeight"), std::string::npos);
  EXPECT_NE(refused([](auto& to) { to.cpu_realtime_runtime = 5; }).find("realtimeRuntime"),
            std::string::npos);
  EXPECT_NE(refused([](auto& to) { to.network_class = 5; }).find("network.classID"), std::string::npos);
}

}  // namespace
}  // namespace layerfs::plan
