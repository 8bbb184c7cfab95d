// SPDX-License-Identifier: Apache-2.0
// Scopes of systemd as values: their names, their properties, and when they are planned at all.
#include "runtime/plan/systemd_scope.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "runtime/plan/container_plan.h"
#include "runtime/plan/run_spec.h"
#include "runtime/sys/systemd_manager.h"

namespace layerfs {
namespace {

using plan::CgroupWrite;
using plan::ScopeName;
using plan::UnitProperty;
using plan::UnitValue;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::uint64_t kInfinity = std::numeric_limits<std::uint64_t>::max();

UnitProperty number(const char* name, std::uint64_t value) { return {name, UnitValue(value)}; }
UnitProperty text(const char* name, const char* value) { return {name, UnitValue(std::string(value))}; }

Result<ScopeName> parse(std::string_view path) {
  return plan::parse_scope_name(path, "layerfs-x", "system.slice");
}

TEST(SystemdScope, APathNamesSlicePrefixAndName) {
  EXPECT_EQ(*parse("machine.slice:libpod:0123"), (ScopeName{"machine.slice", "libpod-0123.scope"}));
  EXPECT_EQ(*parse(":cri-containerd:0123"), (ScopeName{"system.slice", "cri-containerd-0123.scope"}));
  EXPECT_EQ(*parse("a-b.slice::name"), (ScopeName{"a-b.slice", "name.scope"}));
  EXPECT_EQ(*parse(""), (ScopeName{"system.slice", "layerfs-x.scope"}));
}

TEST(SystemdScope, APathOfAnotherFormIsRefused) {
  for (const char* path : {"/machine.slice/x", "machine.slice:x", "a.slice:b:c:d", "machine:libpod:x",
                           "a.slice:b:", "a--b.slice:p:x", "-a.slice:p:x", "a-.slice:p:x", ".slice:p:x",
                           "a/b.slice:p:x", "a.slice:p:x/y", "a.slice:p:x y"}) {
    auto name = parse(path);
    ASSERT_FALSE(name) << path;
    EXPECT_EQ(name.error().kind, ErrorKind::kInvalid);
    EXPECT_THAT(name.error().message(), HasSubstr("linux.cgroupsPath"));
  }
}

TEST(SystemdScope, ASliceLiesInTheSlicesOfItsName) {
  EXPECT_EQ(*plan::expand_slice("-.slice"), "");
  EXPECT_EQ(*plan::expand_slice("a.slice"), "/a.slice");
  EXPECT_EQ(*plan::expand_slice("a-b-c.slice"), "/a.slice/a-b.slice/a-b-c.slice");
  for (const char* slice : {"", "a", ".slice", "a--b.slice", "-a.slice", "a-.slice", "a/b.slice", "a.scope"})
    EXPECT_FALSE(plan::expand_slice(slice)) << slice;
}

TEST(SystemdScope, LimitsAreProperties) {
  std::vector<CgroupWrite> writes{
      {"memory.max", "1000", ""},  {"memory.low", "10", ""},    {"memory.swap.max", "max", ""},
      {"memory.high", "900", ""},  {"pids.max", "max", ""},     {"cpu.weight", "174", ""},
      {"cpu.idle", "1", ""},       {"io.weight", "8:0 50", ""}, {"io.weight", "default 100", ""},
      {"hugetlb.2MB.max", "1", ""}};
  EXPECT_THAT(plan::unit_properties(writes),
              ElementsAre(number("MemoryMax", 1000), number("MemoryLow", 10),
                          number("MemorySwapMax", kInfinity), number("MemoryHigh", 900),
                          number("TasksMax", kInfinity), number("CPUWeight", 174), number("IOWeight", 100)));
}

TEST(SystemdScope, AQuotaIsOfASecondAndInWholePercents) {
  auto of = [](const char* value) { return plan::unit_properties({{"cpu.max", value, ""}}); };
  EXPECT_THAT(of("25000 50000"),
              ElementsAre(number("CPUQuotaPerSecUSec", 500'000), number("CPUQuotaPeriodUSec", 50'000)));
  EXPECT_THAT(of("max 100000"),
              ElementsAre(number("CPUQuotaPerSecUSec", kInfinity), number("CPUQuotaPeriodUSec", 100'000)));
  EXPECT_THAT(of("1"),
              ElementsAre(number("CPUQuotaPerSecUSec", 10'000), number("CPUQuotaPeriodUSec", 100'000)));
  EXPECT_THAT(of("33333 100000"), Contains(number("CPUQuotaPerSecUSec", 340'000)));
  for (const char* wrong : {"", "x 100000", "1 0", "1 x", "18446744073709551614 1"})
    EXPECT_THAT(of(wrong), IsEmpty()) << wrong;
}

TEST(SystemdScope, ProcessorsAreBits) {
  auto of = [](const char* value) { return plan::unit_properties({{"cpuset.cpus", value, ""}}); };
  EXPECT_THAT(of("0-2,8"),
              ElementsAre(UnitProperty{"AllowedCPUs", UnitValue(std::vector<std::uint8_t>{7, 1})}));
  for (const char* wrong : {"2-1", "x", "0-99999999", "1,,2"}) EXPECT_THAT(of(wrong), IsEmpty()) << wrong;
  EXPECT_THAT(plan::unit_properties({{"cpuset.mems", "1", ""}}),
              ElementsAre(UnitProperty{"AllowedMemoryNodes", UnitValue(std::vector<std::uint8_t>{2})}));
}

TEST(SystemdScope, AnnotationsAreProperties) {
  auto of = [](const char* name, const char* value) -> UnitValue {
    auto properties = plan::annotated_properties(
        {{std::string("org.systemd.property.") + name, value}, {"org.example", "'x'"}});
    EXPECT_TRUE(properties) << value;
    return properties && properties->size() == 1 ? properties->front().value : UnitValue(std::string("none"));
  };
  EXPECT_EQ(of("A", "true"), UnitValue(true));
  EXPECT_EQ(of("A", "-5"), UnitValue(std::int32_t{-5}));
  EXPECT_EQ(of("A", "uint32 5"), UnitValue(std::uint32_t{5}));
  EXPECT_EQ(of("A", "int64 -5"), UnitValue(std::int64_t{-5}));
  EXPECT_EQ(of("A", " uint64  18446744073709551615 "), UnitValue(kInfinity));
  EXPECT_EQ(of("A", "'it\\'s'"), UnitValue(std::string("it's")));
  EXPECT_EQ(of("A", "[\"a\", 'b']"), UnitValue(std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(of("A", "[]"), UnitValue(std::vector<std::string>{}));
  EXPECT_EQ(of("TimeoutStopUSec", "uint64 7"), UnitValue(std::uint64_t{7}));
}

TEST(SystemdScope, SecondsAreSetAsMicroseconds) {
  auto properties = plan::annotated_properties(
      {{"org.systemd.property.TimeoutStopSec", "1.5"}, {"org.systemd.property.JobTimeoutSec", "uint32 2"}});
  ASSERT_TRUE(properties) << properties.error().message();
  EXPECT_THAT(*properties,
              ElementsAre(number("JobTimeoutUSec", 2'000'000), number("TimeoutStopUSec", 1'500'000)));
}

TEST(SystemdScope, AnnotationsOfAnotherFormAreRefusedByName) {
  for (const char* value : {"", "x", "'x", "[1]", "['a' 'b']", "uint64 -1", "5 5", "2147483648", "{}",
                            "(1, 2)", "uint64 uint64 1"}) {
    auto properties = plan::annotated_properties({{"org.systemd.property.A", value}});
    ASSERT_FALSE(properties) << value;
    EXPECT_THAT(properties.error().message(), HasSubstr("org.systemd.property.A"));
  }
  EXPECT_FALSE(plan::annotated_properties({{"org.systemd.property.", "5"}}));
  EXPECT_FALSE(plan::annotated_properties({{"org.systemd.property.a b", "5"}}));
  for (const char* value : {"-1", "nan", "inf", "'x'", "true", "1e300"})
    EXPECT_FALSE(plan::annotated_properties({{"org.systemd.property.TimeoutStopSec", value}})) << value;
}

plan::HostFacts host_of(const char* mounts) {
  plan::HostFacts host;
  host.privileged = host.host_root = true;
  host.cgroups = plan::parse_cgroup_layout(parse_mount_info(mounts), "0::/user.slice\n1:pids:/\n");
  return host;
}
constexpr const char* kUnified = "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
constexpr const char* kHybrid =
    "30 24 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    "31 24 0:27 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";

Result<plan::ContainerPlan> plan_by_systemd(const plan::HostFacts& host) {
  spec::ImageDefaults image;
  image.cmd = {"true"};
  plan::RunOptions options;
  options.resources.pids_limit = 5;
  auto spec = plan::make_run_spec(image, options);
  if (!spec) return std::unexpected(spec.error());
  plan::PlanOptions plan_options;
  plan_options.bundle = "/bundle";
  plan_options.cgroup_name = "layerfs-x";
  plan_options.cgroup_manager = plan::CgroupManager::kSystemd;
  return plan::plan_container(*spec, host, plan_options);
}

TEST(SystemdScope, IsPlannedWithItsLimitsToBeWrittenToo) {
  auto plan = plan_by_systemd(host_of(kUnified));
  ASSERT_TRUE(plan) << plan.error().message();
  ASSERT_TRUE(plan->scope);
  EXPECT_EQ(plan->scope->unit, "layerfs-x.scope");
  EXPECT_THAT(plan->scope->properties, Contains(number("TasksMax", 5)));
  EXPECT_THAT(plan->scope->properties, Contains(text("Slice", "system.slice")));
  EXPECT_THAT(plan->scope->properties, Contains(text("CollectMode", "inactive-or-failed")));
  EXPECT_THAT(plan->scope->properties, Contains(UnitProperty{"Delegate", UnitValue(true)}));
  EXPECT_THAT(plan->scope->properties, Contains(UnitProperty{"DefaultDependencies", UnitValue(false)}));
  ASSERT_EQ(plan->cgroup.groups.size(), 1U);
  EXPECT_EQ(plan->cgroup.groups.front().writes.front().file, "pids.max");
}

TEST(SystemdScope, OfAnOrdinaryUserIsInTheUsersSlice) {
  auto host = host_of(kUnified);
  host.host_root = false;
  auto plan = plan_by_systemd(host);
  ASSERT_TRUE(plan) << plan.error().message();
  EXPECT_THAT(plan->scope->properties, Contains(text("Slice", "user.slice")));
}

TEST(SystemdScope, NeedsCgroupV2Alone) {
  auto plan = plan_by_systemd(host_of(kHybrid));
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().kind, ErrorKind::kUnsupported);
  EXPECT_THAT(plan.error().message(), HasSubstr("cgroup v2"));
}

TEST(SystemdScope, AddressesAreEscaped) {
  EXPECT_EQ(sys::unix_address("/run/user/1000/bus"), "unix:path=/run/user/1000/bus");
  EXPECT_EQ(sys::unix_address("/a b,c;d=e%"), "unix:path=/a%20b%2cc%3bd%3de%25");
}

TEST(SystemdScope, WhereNobodyListensTheErrorSaysWhere) {
  auto manager = sys::SystemdManager::connect(
      {{sys::unix_address("/nowhere/private"), false}, {sys::unix_address("/nowhere/bus"), true}});
  ASSERT_FALSE(manager);
  EXPECT_EQ(manager.error().kind, ErrorKind::kUnsupported);
  EXPECT_THAT(manager.error().message(), HasSubstr("systemd"));
  if (!sys::has_systemd_support()) return;
  EXPECT_THAT(manager.error().message(), HasSubstr("/nowhere/private"));
  EXPECT_THAT(manager.error().message(), HasSubstr("/nowhere/bus"));
}

}  // namespace
}  // namespace layerfs
