// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/security_label.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

namespace layerfs::plan {
namespace {

using testing::HasSubstr;

HostFacts host_with(AppArmorState apparmor, bool selinux) {
  HostFacts host;
  host.apparmor = apparmor;
  host.selinux = selinux;
  return host;
}

TEST(AppArmor, IsThereWhereTheKernelSaysSo) {
  EXPECT_EQ(parse_apparmor_state("", ""), AppArmorState::kAbsent);
  EXPECT_EQ(parse_apparmor_state("N\n", ""), AppArmorState::kAbsent);
  EXPECT_EQ(parse_apparmor_state("Y\n", "unconfined\n"), AppArmorState::kUnconfined);
  EXPECT_EQ(parse_apparmor_state("Y\n", ""), AppArmorState::kUnconfined);
  EXPECT_EQ(parse_apparmor_state("Y\n", "docker-default (enforce)\n"), AppArmorState::kConfined);
  EXPECT_EQ(parse_apparmor_state("Y\n", "unconfined_but_not (complain)\n"), AppArmorState::kConfined);
}

TEST(AppArmor, AProfileIsChangedToAtTheExec) {
  spec::Process process;
  ProcessPlan plan;
  ASSERT_TRUE(plan_process_labels(process, host_with(AppArmorState::kUnconfined, false), plan));
  EXPECT_EQ(plan.apparmor_change, "");
  process.apparmor_profile = "box";
  process.no_new_privileges = true;
  ASSERT_TRUE(plan_process_labels(process, host_with(AppArmorState::kUnconfined, false), plan));
  EXPECT_EQ(plan.apparmor_change, "exec box");
  ASSERT_TRUE(plan_process_labels(process, host_with(AppArmorState::kConfined, false), plan));
  EXPECT_EQ(plan.apparmor_change, "stack box") << "the only change that no_new_privs leaves";
  process.no_new_privileges = false;
  ASSERT_TRUE(plan_process_labels(process, host_with(AppArmorState::kConfined, false), plan));
  EXPECT_EQ(plan.apparmor_change, "exec box");
}

TEST(AppArmor, AKernelWithoutItIsAnErrorOfTheField) {
  spec::Process process;
  process.apparmor_profile = "box";
  ProcessPlan plan;
  auto planned = plan_process_labels(process, HostFacts{}, plan);
  ASSERT_FALSE(planned);
  EXPECT_EQ(planned.error().kind, ErrorKind::kUnsupported);
  EXPECT_THAT(planned.error().message(), HasSubstr("process.apparmorProfile"));
  process.apparmor_profile = "unconfined";
  ASSERT_TRUE(plan_process_labels(process, HostFacts{}, plan)) << "which is what it is";
  EXPECT_EQ(plan.apparmor_change, "");
}

TEST(SeLinux, IsThereWhereItsFileSystemIsMounted) {
  EXPECT_FALSE(has_selinux(parse_mount_info("22 1 0:5 / /sys rw - sysfs sysfs rw\n")));
  EXPECT_TRUE(
      has_selinux(parse_mount_info("22 1 0:5 / /sys rw - sysfs sysfs rw\n"
                                   "23 22 0:6 / /sys/fs/selinux rw - selinuxfs selinuxfs rw\n")));
}

TEST(SeLinux, ALabelNeedsAKernelThatHasIt) {
  spec::Process process;
  process.selinux_label = "u:r:t:s0:c1,c2";
  ProcessPlan plan;
  auto planned = plan_process_labels(process, HostFacts{}, plan);
  ASSERT_FALSE(planned);
  EXPECT_THAT(planned.error().message(), HasSubstr("process.selinuxLabel"));
  ASSERT_TRUE(plan_process_labels(process, host_with(AppArmorState::kAbsent, true), plan));
  EXPECT_EQ(plan.selinux_label, "u:r:t:s0:c1,c2");
}

class MountLabel : public testing::Test {
 protected:
  MountLabel() { spec_.mount_label = "u:object_r:t:s0:c1,c2"; }
  MountStep labelled(MountStep step) {
    add_mount_label(spec_, step);
    return step;
  }
  std::string refusal(const HostFacts& host) {
    auto checked = check_mount_label(spec_, host);
    return checked ? "nothing" : checked.error().message();
  }

  spec::ContainerSpec spec_;
};

TEST_F(MountLabel, IsAnOptionOfNewMounts) {
  EXPECT_EQ(labelled({.target = "/a", .type = "tmpfs", .data = "mode=755"}).data,
            "mode=755,context=\"u:object_r:t:s0:c1,c2\"");
  EXPECT_EQ(labelled({.target = "/a", .type = "devpts"}).data, "context=\"u:object_r:t:s0:c1,c2\"");
  EXPECT_EQ(labelled({.target = "/a", .type = "tmpfs", .data = "rootcontext=x"}).data, "rootcontext=x");
  for (const char* type : {"proc", "sysfs", "cgroup", "cgroup2"})
    EXPECT_EQ(labelled({.target = "/a", .type = type}), (MountStep{.target = "/a", .type = type})) << type;
  EXPECT_EQ(labelled({.target = "/a", .source = "/b", .bind = true}).data, "");
  MountStep queue = labelled({.target = "/dev/mqueue", .type = "mqueue"});
  EXPECT_EQ(queue.data, "");
  EXPECT_EQ(queue.label, "u:object_r:t:s0:c1,c2");
}

TEST_F(MountLabel, AnAnnotationChoosesTheOption) {
  spec_.annotations["run.oci.mount_context_type"] = "rootcontext";
  EXPECT_EQ(refusal(host_with(AppArmorState::kAbsent, true)), "nothing");
  EXPECT_EQ(labelled({.target = "/a", .type = "tmpfs"}).data, "rootcontext=\"u:object_r:t:s0:c1,c2\"");
  spec_.annotations["run.oci.mount_context_type"] = "size";
  EXPECT_THAT(refusal(host_with(AppArmorState::kAbsent, true)), HasSubstr("run.oci.mount_context_type"));
}

TEST_F(MountLabel, WhatCannotBeIsAnErrorOfTheField) {
  EXPECT_THAT(refusal(HostFacts{}), HasSubstr("linux.mountLabel"));
  spec_.mount_label = "x\",size=1";
  EXPECT_THAT(refusal(host_with(AppArmorState::kAbsent, true)), HasSubstr("linux.mountLabel"));
  spec_.mount_label.clear();
  EXPECT_EQ(refusal(HostFacts{}), "nothing");
}

}  // namespace
}  // namespace layerfs::plan
