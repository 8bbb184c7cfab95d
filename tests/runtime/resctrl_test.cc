// SPDX-License-Identifier: Apache-2.0
// The plan of linux.intelRdt, and its execution on a tree of ordinary directories: what the kernel would put
// into a new one is not there, so that a class to be made fails where its files are first written.
#include "runtime/container/resctrl.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "fs/base/sys_file.h"

namespace layerfs {
namespace {

using plan::ResctrlPlan;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(ResctrlPlanned, FindsTheMount) {
  EXPECT_EQ(plan::find_resctrl(
                parse_mount_info("22 1 0:5 / /sys rw - sysfs sysfs rw\n"
                                 "40 22 0:9 / /sys/fs/resctrl rw,relatime shared:5 - resctrl resctrl rw\n")),
            "/sys/fs/resctrl");
  EXPECT_EQ(plan::find_resctrl(parse_mount_info("22 1 0:5 / /sys rw - sysfs sysfs rw\n")), "");
  EXPECT_EQ(plan::find_resctrl(parse_mount_info(" - resctrl ")), "");
}

TEST(ResctrlPlanned, AClassIsTheContainersOrHasAName) {
  spec::IntelRdt rdt;
  auto own = plan::plan_resctrl(rdt, "/r", "c");
  ASSERT_TRUE(own);
  EXPECT_EQ(own->directory, "/r/c");
  EXPECT_TRUE(own->is_containers);
  EXPECT_FALSE(own->must_exist);
  rdt.clos_id = "gold";
  auto prepared = plan::plan_resctrl(rdt, "/r", "c");
  EXPECT_EQ(prepared->directory, "/r/gold");
  EXPECT_TRUE(prepared->must_exist) << "nothing says what it should be";
  rdt.schemata = {"L3:0=f", "MB:0=20"};
  rdt.l3_cache_schema = "L3:0=ff";
  rdt.memory_bandwidth_schema = "MB:0=10";
  rdt.enable_monitoring = true;
  auto named = plan::plan_resctrl(rdt, "/r", "c");
  EXPECT_FALSE(named->must_exist);
  EXPECT_FALSE(named->is_containers);
  EXPECT_EQ(named->schemata, "L3:0=ff\nMB:0=10\nL3:0=f\nMB:0=20\n");
  EXPECT_THAT(named->compared, ElementsAre("L3:0=ff", "MB:0=10"));
  EXPECT_EQ(named->monitor, "/r/gold/mon_groups/c");
  rdt.clos_id = "/";
  auto usual = plan::plan_resctrl(rdt, "/r", "c");
  EXPECT_EQ(usual->directory, "/r");
  EXPECT_TRUE(usual->must_exist);
  EXPECT_EQ(usual->monitor, "/r/mon_groups/c");
}

TEST(ResctrlPlanned, WithoutAMountItIsAnErrorOfTheField) {
  auto planned = plan::plan_resctrl({}, "", "c");
  ASSERT_FALSE(planned);
  EXPECT_EQ(planned.error().kind, ErrorKind::kUnsupported);
  EXPECT_THAT(planned.error().message(), HasSubstr("linux.intelRdt"));
}

TEST(ResctrlPlanned, SchemataAreComparedByDomain) {
  const char* now = "    L3:0=7f0;1=00f\n    MB:0= 20;1=100\n";
  EXPECT_TRUE(plan::schemata_match({"L3:1=F;0=07f0", "MB:1=100"}, now));
  EXPECT_TRUE(plan::schemata_match({}, now));
  EXPECT_FALSE(plan::schemata_match({"L3:0=7f1"}, now));
  EXPECT_FALSE(plan::schemata_match({"L3:2=f"}, now));
  EXPECT_FALSE(plan::schemata_match({"L2:0=7f0"}, now));
}

class Resctrl : public testing::Test {
 protected:
  Resctrl() {
    const char* base = std::getenv("TMPDIR");
    root_ = std::string(base == nullptr ? "/tmp" : base) + "/layerfs-resctrl.XXXXXX";
    EXPECT_NE(::mkdtemp(root_.data()), nullptr);
    make_class("gold");
    EXPECT_TRUE(make_dirs(root_ + "/info", 0755));
  }
  ~Resctrl() override { EXPECT_TRUE(remove_tree(root_)); }

  void make_class(const std::string& name) {
    EXPECT_TRUE(make_dirs(root_ + '/' + name + "/mon_groups", 0755));
    write(name + "/tasks", "");
    write(name + "/schemata", "L3:0=7f0\n");
  }
  void write(const std::string& name, const std::string& text) { std::ofstream(root_ + '/' + name) << text; }
  std::string read(const std::string& name) { return read_file(root_ + '/' + name).value_or("absent"); }
  ResctrlPlan planned(const spec::IntelRdt& rdt) { return *plan::plan_resctrl(rdt, root_, "c"); }

  std::string root_;
};

TEST_F(Resctrl, APreparedClassIsJoinedAndLeftBehind) {
  ResctrlPlan plan = planned({.clos_id = "gold", .enable_monitoring = true});
  auto made = container::make_resctrl(plan);
  ASSERT_TRUE(made) << made.error().message();
  EXPECT_THAT(*made, ElementsAre(root_ + "/gold/mon_groups/c")) << "its monitoring group is its own";
  write("gold/mon_groups/c/tasks", "");
  ASSERT_TRUE(container::join_resctrl(plan, 42));
  EXPECT_EQ(read("gold/tasks"), "42");
  EXPECT_EQ(read("gold/mon_groups/c/tasks"), "42");
  EXPECT_EQ(read("gold/schemata"), "L3:0=7f0\n");
  EXPECT_EQ(::unlink((root_ + "/gold/mon_groups/c/tasks").c_str()), 0);
  ASSERT_TRUE(container::remove_resctrl(*made));
  EXPECT_TRUE(container::remove_resctrl(*made)) << "which it is already";
  EXPECT_EQ(read("gold/mon_groups/c/tasks"), "absent");
  EXPECT_NE(read("gold/tasks"), "absent");
}

TEST_F(Resctrl, AClassThatIsNotPreparedIsAnError) {
  auto made = container::make_resctrl(planned({.clos_id = "silver"}));
  ASSERT_FALSE(made);
  EXPECT_THAT(made.error().message(), HasSubstr("linux.intelRdt.closID"));
}

TEST_F(Resctrl, SchemataAreWrittenOrMustBeTheSame) {
  ASSERT_TRUE(container::make_resctrl(planned({.clos_id = "gold", .schemata = {"L3:0=f", "MB:0=20"}})));
  EXPECT_THAT(read("gold/schemata"), HasSubstr("L3:0=f\nMB:0=20\n"));
  auto other = container::make_resctrl(planned({.clos_id = "gold", .l3_cache_schema = "L3:0=1"}));
  ASSERT_FALSE(other);
  EXPECT_THAT(other.error().message(), HasSubstr("schemata of '" + root_ + "/gold'"));
}

TEST_F(Resctrl, WhatFailsHalfWayLeavesNothing) {
  write("info/last_cmd_status", "Unknown domain 7\n");
  auto made = container::make_resctrl(planned({.schemata = {"L3:7=f"}}));
  ASSERT_FALSE(made) << "an ordinary directory has no file of schemata";
  EXPECT_THAT(made.error().message(), HasSubstr("linux.intelRdt.schemata"));
  EXPECT_THAT(made.error().message(), HasSubstr("Unknown domain 7"));
  EXPECT_NE(::access((root_ + "/c").c_str(), F_OK), 0);
}

TEST_F(Resctrl, AContainersOwnClassGoesWithIt) {
  auto made = container::make_resctrl(planned({}));
  ASSERT_TRUE(made) << made.error().message();
  EXPECT_THAT(*made, ElementsAre(root_ + "/c"));
  ASSERT_TRUE(container::remove_resctrl(*made));
  EXPECT_NE(::access((root_ + "/c").c_str(), F_OK), 0);
  make_class("c");
  auto there = container::make_resctrl(planned({}));
  ASSERT_TRUE(there) << there.error().message();
  EXPECT_TRUE(there->empty()) << "what was there before is not its own";
}

}  // namespace
}  // namespace layerfs
