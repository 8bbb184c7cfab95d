// SPDX-License-Identifier: Apache-2.0
// A whole container's plan, and its steps executed on a recording of the kernel.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/sysmacros.h>

#include "runtime/container/root_walk.h"
#include "runtime/container/run_steps.h"
#include "runtime/plan/container_plan.h"
#include "runtime/plan/run_spec.h"
#include "runtime/sys/recording_syscalls.h"

namespace layerfs {
namespace {

using container::StepContext;
using container::SyncChannel;
using plan::ContainerPlan;
using plan::HostFacts;
using plan::PlanOptions;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

spec::ContainerSpec usual_spec(const plan::RunOptions& options = {}) {
  spec::ImageDefaults image;
  image.cmd = {"true"};
  return *plan::make_run_spec(image, options);
}

HostFacts root_host() {
  HostFacts host;
  host.privileged = host.host_root = true;
  return host;
}

PlanOptions usual_options() {
  PlanOptions options;
  options.bundle = "/bundle";
  return options;
}

template <class T>
const T* find_step(const ContainerPlan& plan) {
  for (const auto& step : plan.steps)
    if (const T* found = std::get_if<T>(&step)) return found;
  return nullptr;
}

template <class T>
std::size_t position(const ContainerPlan& plan) {
  for (std::size_t i = 0; i < plan.steps.size(); ++i)
    if (std::holds_alternative<T>(plan.steps[i])) return i;
  return plan.steps.size();
}

TEST(ContainerPlan, NamespacesAreMadeOrJoined) {
  spec::ContainerSpec spec = usual_spec();
  auto plan = plan::plan_container(spec, root_host(), usual_options());
  ASSERT_TRUE(plan) << plan.error().message();
  EXPECT_EQ(plan->clone_flags, static_cast<std::uint64_t>(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC |
                                                          CLONE_NEWUTS | CLONE_NEWNET));
  EXPECT_TRUE(plan->joins.empty());
  EXPECT_EQ(position<plan::UnshareCgroup>(*plan), 0U)
      << "the cgroup namespace comes after the group was joined";
  for (auto& entry : spec.namespaces)
    if (entry.kind == spec::NamespaceKind::kNetwork) entry.path = "/run/netns/x";
  plan = plan::plan_container(spec, root_host(), usual_options());
  EXPECT_EQ(plan->clone_flags & CLONE_NEWNET, 0U);
  ASSERT_EQ(plan->joins.size(), 1U);
  EXPECT_EQ(find_step<plan::LoopbackUp>(*plan), nullptr)
      << "a network of somebody else is not ours to change";
}

TEST(ContainerPlan, EverythingThatMountsComesBeforeThePivot) {
  plan::RunOptions options;
  options.read_only = true;
  options.terminal = true;
  auto plan = plan::plan_container(usual_spec(options), root_host(), usual_options());
  ASSERT_TRUE(plan);
  EXPECT_EQ(position<plan::Pivot>(*plan), plan->steps.size() - 1);
  EXPECT_LT(position<plan::SetPropagation>(*plan), position<plan::BindRoot>(*plan));
  EXPECT_LT(position<plan::MountStep>(*plan), position<plan::DeviceStep>(*plan));
  EXPECT_LT(position<plan::ConsoleStep>(*plan), position<plan::ReadonlyRoot>(*plan));
  EXPECT_LT(position<plan::ReadonlyStep>(*plan), position<plan::MaskStep>(*plan));
}

TEST(ContainerPlan, NodesAreMadeOnlyWhereADeviceCgroupGuardsThem) {
  auto making = [](const HostFacts& host, const spec::ContainerSpec& spec) {
    auto plan = plan::plan_container(spec, host, usual_options());
    EXPECT_TRUE(plan) << plan.error().message();
    return find_step<plan::DeviceStep>(*plan)->making;
  };
  HostFacts host = root_host();
  host.cgroups = plan::parse_cgroup_layout(parse_mount_info("1 1 0:1 / /d rw - cgroup cgroup rw,devices\n"),
                                           "1:devices:/\n");
  spec::ContainerSpec spec = usual_spec();
  EXPECT_EQ(making(host, spec), plan::DeviceMaking::kBind);
  spec.resources.devices = {{false, 'a', {}, {}, ""}};
  EXPECT_EQ(making(host, spec), plan::DeviceMaking::kNode);
  EXPECT_FALSE(plan::plan_container(spec, root_host(), usual_options()))
      << "no controller: an error, never silence";
}

TEST(ContainerPlan, DeviceDirectoryOfTheHostIsLeftAlone) {
  spec::ContainerSpec spec = usual_spec();
  for (auto& mount : spec.mounts)
    if (mount.destination == "/dev") mount = {"/dev", "bind", "/dev", {"rbind"}};
  auto plan = plan::plan_container(spec, root_host(), usual_options());
  ASSERT_TRUE(plan);
  EXPECT_EQ(find_step<plan::DeviceStep>(*plan), nullptr);
}

TEST(ContainerPlan, AReadOnlyTmpfsIsFilledBeforeItIsReadOnly) {
  spec::ContainerSpec spec = usual_spec();
  spec.mounts = {{"/dev", "tmpfs", "tmpfs", {"nosuid", "ro"}, {}, {}},
                 {"/run", "tmpfs", "tmpfs", {"ro"}, {}, {}},
                 {"/run/inner", "bind", "/x", {"bind"}, {}, {}},
                 {"/twice", "tmpfs", "tmpfs", {"ro"}, {}, {}},
                 {"/twice", "tmpfs", "tmpfs", {}, {}, {}}};
  spec.process.cwd = "/run/work";
  spec.readonly_paths.clear();
  auto plan = plan::plan_container(spec, root_host(), usual_options());
  ASSERT_TRUE(plan) << plan.error().message();
  std::vector<std::pair<std::string, bool>> made;
  for (const auto& step : plan->steps) {
    const auto* mount = std::get_if<plan::MountStep>(&step);
    if (mount == nullptr) continue;
    EXPECT_EQ(mount->flags & MS_RDONLY, 0U);
    made.emplace_back(mount->target, mount->readonly_later);
  }
  EXPECT_EQ(made,
            (std::vector<std::pair<std::string, bool>>{
                {"/dev", true}, {"/run", true}, {"/run/inner", false}, {"/twice", true}, {"/twice", false}}));
  EXPECT_LT(position<plan::MakeDirectory>(*plan), position<plan::ReadonlyMounts>(*plan));
  EXPECT_LT(position<plan::DeviceStep>(*plan), position<plan::ReadonlyMounts>(*plan));
}

TEST(ContainerPlan, WithoutAMountNamespaceTheCallersRootStays) {
  spec::ContainerSpec spec = usual_spec();
  std::erase_if(spec.namespaces,
                [](const spec::Namespace& entry) { return entry.kind == spec::NamespaceKind::kMount; });
  PlanOptions options = usual_options();
  options.no_pivot = true;
  auto plan = plan::plan_container(spec, root_host(), options);
  ASSERT_TRUE(plan) << plan.error().message();
  EXPECT_EQ(find_step<plan::SetPropagation>(*plan), nullptr);
  ASSERT_NE(find_step<plan::BindRoot>(*plan), nullptr) << "what holds all its mounts";
  EXPECT_EQ(find_step<plan::Pivot>(*plan)->kind, plan::PivotKind::kChroot);
}

TEST(ContainerPlan, IdsMustBeMapped) {
  plan::RunOptions options;
  options.uid_map = options.gid_map = {{0, 1000, 1}};
  spec::ContainerSpec spec = usual_spec(options);
  spec.process.user.lookup.clear();
  spec.process.user.uid = 5;
  HostFacts host;
  host.uid = host.gid = 1000;
  auto plan = plan::plan_container(spec, host, usual_options());
  ASSERT_FALSE(plan);
  EXPECT_THAT(plan.error().message(), HasSubstr("process.user.uid"));
}

TEST(ContainerPlan, LimitsWithoutCgroupsAreAnError) {
  plan::RunOptions options;
  options.resources.pids_limit = 5;
  PlanOptions plan_options = usual_options();
  plan_options.cgroup_mode = plan::CgroupMode::kDisabled;
  EXPECT_FALSE(plan::plan_container(usual_spec(options), root_host(), plan_options));
}

TEST(ContainerPlan, CgroupsV1AreAMountEach) {
  HostFacts host = root_host();
  host.cgroups =
      plan::parse_cgroup_layout(parse_mount_info("1 1 0:1 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup "
                                                 "rw,cpu,cpuacct\n1 1 0:2 / /sys/fs/cgroup/pids "
                                                 "rw - cgroup cgroup "
                                                 "rw,pids\n"),
                                "1:cpu,cpuacct:/\n2:pids:/\n");
  plan::RunOptions options;
  options.resources.pids_limit = 5;
  PlanOptions plan_options = usual_options();
  plan_options.cgroup_name = "layerfs-x";
  auto plan = plan::plan_container(usual_spec(options), host, plan_options);
  ASSERT_TRUE(plan) << plan.error().message();
  std::vector<std::string> targets;
  for (const auto& step : plan->steps)
    if (const auto* mount = std::get_if<plan::MountStep>(&step);
        mount != nullptr && mount->target.starts_with("/sys/fs"))
      targets.push_back(mount->type + ' ' + mount->target);
  EXPECT_EQ(targets, (std::vector<std::string>{"tmpfs /sys/fs/cgroup", "cgroup /sys/fs/cgroup/cpu,cpuacct",
                                               "cgroup /sys/fs/cgroup/pids"}));
}

spec::ContainerSpec spec_with_mount(spec::Mount mount) {
  spec::ContainerSpec spec = usual_spec();
  mount.destination = "/vol";
  spec.mounts.push_back(std::move(mount));
  return spec;
}

const plan::MountStep& last_mount(const ContainerPlan& plan) {
  const plan::MountStep* found = nullptr;
  for (const auto& step : plan.steps)
    if (const auto* mount = std::get_if<plan::MountStep>(&step)) found = mount;
  return *found;
}

TEST(ContainerPlan, IdMapsOfMountsAreTheirOwnOrTheContainers) {
  std::vector<spec::IdMapping> own{{0, 5000, 10}};
  auto spec = spec_with_mount(
      {.source = "/v", .options = {"rbind", "ridmap"}, .uid_mappings = own, .gid_mappings = own});
  auto plan = plan::plan_container(spec, root_host(), usual_options());
  ASSERT_TRUE(plan) << plan.error().message();
  EXPECT_EQ(last_mount(*plan).id_map, (plan::MountIdMap{true, own, own, {}}));
  spec = spec_with_mount({.source = "/v", .options = {"bind", "idmap"}});
  spec.namespaces.push_back({spec::NamespaceKind::kUser, {}});
  spec.uid_mappings = {{0, 70000, 100}};
  spec.gid_mappings = {{0, 80000, 100}};
  plan = plan::plan_container(spec, root_host(), usual_options());
  ASSERT_TRUE(plan) << plan.error().message();
  EXPECT_EQ(last_mount(*plan).id_map, (plan::MountIdMap{false, spec.uid_mappings, spec.gid_mappings, {}}));
  spec.namespaces.back().path = "/proc/7/ns/user";
  spec.uid_mappings = spec.gid_mappings = {};
  plan = plan::plan_container(spec, root_host(), usual_options());
  ASSERT_TRUE(plan) << plan.error().message();
  EXPECT_EQ(last_mount(*plan).id_map, (plan::MountIdMap{false, {}, {}, "/proc/7/ns/user"}));
}

TEST(ContainerPlan, IdMapsOfOptionsMayBeRelativeToTheContainers) {
  auto spec = spec_with_mount({.source = "/v", .options = {"bind", "idmap=uids=7-3-1#@1-3-10;gids=0-5-1"}});
  auto plan = plan::plan_container(spec, root_host(), usual_options());
  ASSERT_FALSE(plan);
  spec.namespaces.push_back({spec::NamespaceKind::kUser, {}});
  spec.uid_mappings = {{0, 0, 1}, {1, 2, 1000}};
  spec.gid_mappings = {{0, 80000, 100}};
  plan = plan::plan_container(spec, root_host(), usual_options());
  ASSERT_TRUE(plan) << plan.error().message();
  EXPECT_EQ(last_mount(*plan).id_map, (plan::MountIdMap{false, {{7, 3, 1}, {1, 4, 10}}, {{0, 5, 1}}, {}}));
}

TEST(ContainerPlan, IdMapsThatCannotBeAreErrorsOfTheirMount) {
  std::vector<spec::IdMapping> own{{0, 5000, 10}};
  auto message = [](const spec::ContainerSpec& spec, const HostFacts& host) {
    auto plan = plan::plan_container(spec, host, usual_options());
    return plan ? std::string() : plan.error().message();
  };
  auto without = spec_with_mount({.source = "/v", .options = {"bind", "idmap"}});
  EXPECT_THAT(message(without, root_host()), HasSubstr("mount '/vol': option 'idmap' needs 'uidMappings'"));
  auto tmpfs = spec_with_mount({.type = "tmpfs", .uid_mappings = own, .gid_mappings = own});
  EXPECT_THAT(message(tmpfs, root_host()), HasSubstr("mount '/vol': 'uidMappings' needs a bind mount"));
  auto bind = spec_with_mount(
      {.source = "/v", .options = {"bind", "idmap"}, .uid_mappings = own, .gid_mappings = own});
  EXPECT_THAT(message(bind, HostFacts{}), HasSubstr("mount '/vol': 'uidMappings' needs root"));
}

TEST(ContainerPlan, TheRootOfAUserNamespaceMakesNoDevices) {
  spec::ContainerSpec spec = usual_spec();
  spec.devices = {{.path = "/dev/x", .type = 'c', .major = 1, .minor = 5}};
  spec.resources.devices = {{.allow = false}};
  HostFacts host = root_host();
  host.host_root = false;
  auto plan = plan::plan_container(spec, host, usual_options());
  ASSERT_TRUE(plan) << plan.error().message();
  for (const auto& step : plan->steps)
    if (const auto* device = std::get_if<plan::DeviceStep>(&step)) {
      EXPECT_EQ(device->making, plan::DeviceMaking::kBind) << device->path;
    }
  EXPECT_TRUE(plan->cgroup.groups.empty());
}

TEST(ContainerPlan, DevicesOfAUserNamespaceAreTheCreators) {
  spec::ContainerSpec spec = usual_spec();
  spec.namespaces.push_back({spec::NamespaceKind::kUser, {}});
  spec.uid_mappings = {{0, 70000, 100}};
  spec.gid_mappings = {{0, 80000, 100}};
  spec.devices = {
      {.path = "/dev/x", .type = 'b', .major = 1, .minor = 5, .file_mode = 0157, .uid = 10, .gid = 11}};
  auto find = [&](const HostFacts& host) {
    auto plan = plan::plan_container(spec, host, usual_options());
    EXPECT_TRUE(plan) << plan.error().message();
    for (const auto& step : plan->steps)
      if (const auto* device = std::get_if<plan::DeviceStep>(&step);
          device != nullptr && device->path == "/dev/x")
        return *device;
    return plan::DeviceStep{};
  };
  EXPECT_EQ(find(root_host()), (plan::DeviceStep{"/dev/x", plan::DeviceMaking::kCreator, S_IFBLK | 0157,
                                                 makedev(1, 5), 70010, 80011}));
  EXPECT_EQ(find(HostFacts{}).making, plan::DeviceMaking::kBind);
  spec.devices[0].gid = 100;
  auto plan = plan::plan_container(spec, root_host(), usual_options());
  ASSERT_FALSE(plan);
  EXPECT_THAT(plan.error().message(), HasSubstr("linux.devices"));
}

TEST(ContainerPlan, InterfacesNeedRoot) {
  spec::ContainerSpec spec = usual_spec();
  spec.net_devices = {{"eth1", "eth0"}};
  auto plan = plan::plan_container(spec, root_host(), usual_options());
  ASSERT_TRUE(plan) << plan.error().message();
  EXPECT_EQ(plan->net_devices, spec.net_devices);
  auto refused = plan::plan_container(spec, HostFacts{}, usual_options());
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("linux.netDevices"));
}

/// Steps on a recording: a host with /dev and /proc, and a root at /bundle/rootfs.
class RunSteps : public testing::Test {
 protected:
  RunSteps() {
    calls_.add_dir("/bundle/rootfs");
    calls_.add_dir("/bundle/rootfs/etc");
    calls_.add_dir("/bundle/rootfs/proc", PROC_SUPER_MAGIC);
    calls_.add_dir("/proc", PROC_SUPER_MAGIC);
    calls_.add("/dev/null", {S_IFCHR | 0666, makedev(1, 3), {}, 0});
    auto ends = SyncChannel::make_pair();
    sync_ = std::move(ends->first);
    other_ = std::move(ends->second);
  }

  Result<void> run(std::vector<plan::Step> steps) {
    StepContext context{calls_, sync_, process_, ids_, {}, {}, {}, {}, {}, {}, {}, {}, {}};
    for (const auto& source : prepared_) context.prepared_mounts.push_back(*calls_.open_path(source, O_PATH));
    context.fuse_options = [](int) { return std::string("fd=X"); };
    context.host_proc = *calls_.open_path("/proc", O_PATH);
    context.root = *calls_.open_path("/bundle/rootfs", O_PATH);
    return container::run_steps(steps, context);
  }

  sys::RecordingSyscalls calls_;
  SyncChannel sync_;
  SyncChannel other_;
  plan::ProcessPlan process_;
  plan::IdMapPlan ids_;
  std::vector<std::string> prepared_;  ///< sources of mounts that the creator has made
};

TEST_F(RunSteps, FuseRootIsMountedAndItsDevicePassedOn) {
  calls_.add("/dev/fuse", {S_IFCHR | 0666, makedev(10, 229), {}, 0});
  calls_.add_dir("/store/rootfs");
  ASSERT_TRUE(run({plan::MountFuseRoot{"/store/rootfs"}}));
  EXPECT_EQ(calls_.log,
            (std::vector<std::string>{"mount fuse.layerfs on /store/rootfs flags=0x4 fd=X", "make procfs"}));
  auto processes = other_.receive();
  ASSERT_TRUE(processes);
  EXPECT_EQ(processes->kind, container::MessageKind::kProcesses);
  EXPECT_TRUE(processes->fd);
  auto message = other_.receive();
  ASSERT_TRUE(message);
  EXPECT_EQ(message->kind, container::MessageKind::kFuseDevice);
  EXPECT_TRUE(message->fd);
}

TEST_F(RunSteps, AFuseRootNeedsNoProcfs) {
  calls_.add("/dev/fuse", {S_IFCHR | 0666, makedev(10, 229), {}, 0});
  calls_.add_dir("/store/rootfs");
  calls_.failures["make procfs"] = EPERM;
  ASSERT_TRUE(run({plan::MountFuseRoot{"/store/rootfs"}}));
  auto message = other_.receive();
  ASSERT_TRUE(message);
  EXPECT_EQ(message->kind, container::MessageKind::kFuseDevice);
}

TEST_F(RunSteps, MountTargetsAreMadeInsideTheRoot) {
  ASSERT_TRUE(run({plan::MountStep{
      .target = "/a/b", .source = "tmpfs", .type = "tmpfs", .flags = MS_NOSUID, .data = "mode=755"}}));
  EXPECT_EQ(calls_.log, (std::vector<std::string>{"mkdir /bundle/rootfs/a", "mkdir /bundle/rootfs/a/b",
                                                  "mount tmpfs on /bundle/rootfs/a/b flags=0x2 mode=755"}));
}

TEST_F(RunSteps, ALabelWithoutAnOptionIsSetOnTheMount) {
  ASSERT_TRUE(run({plan::MountStep{
      .target = "/dev/mqueue", .source = "mqueue", .type = "mqueue", .label = "u:object_r:t:s0"}}));
  EXPECT_EQ(calls_.log.back(), "setxattr /bundle/rootfs/dev/mqueue security.selinux=u:object_r:t:s0");
}

TEST_F(RunSteps, LinksOfTheImageAreFollowedInsideTheRoot) {
  calls_.add("/bundle/rootfs/out", {S_IFLNK | 0777, 0, "/etc/../../../../host", 0});
  calls_.add("/bundle/rootfs/up", {S_IFLNK | 0777, 0, "../../../..", 0});
  ASSERT_TRUE(run({plan::MountStep{.target = "/out/x", .source = "tmpfs", .type = "tmpfs"},
                   plan::MountStep{.target = "/up/y", .source = "tmpfs", .type = "tmpfs"}}));
  EXPECT_THAT(calls_.log, Contains("mount tmpfs on /bundle/rootfs/host/x flags=0x0"));
  EXPECT_THAT(calls_.log, Contains("mount tmpfs on /bundle/rootfs/y flags=0x0"));
}

TEST_F(RunSteps, ALoopOfLinksIsAnError) {
  calls_.add("/bundle/rootfs/loop", {S_IFLNK | 0777, 0, "loop", 0});
  auto done = run({plan::MountStep{.target = "/loop/x", .source = "tmpfs", .type = "tmpfs"}});
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, ELOOP);
  EXPECT_THAT(done.error().message(), HasSubstr("mount '/loop/x'"));
}

TEST_F(RunSteps, ProcAsALinkIsRefused) {
  calls_.add("/bundle/rootfs/sys", {S_IFLNK | 0777, 0, "etc", 0});
  auto done = run({plan::MountStep{.target = "/sys", .source = "sysfs", .type = "sysfs"}});
  ASSERT_FALSE(done);
  EXPECT_TRUE(calls_.log.empty());
}

TEST_F(RunSteps, RefusedSysfsIsBoundInstead) {
  calls_.add_dir("/sys");
  calls_.failures["mount sysfs"] = EPERM;
  ASSERT_TRUE(run({plan::MountStep{
      .target = "/sys", .source = "sysfs", .type = "sysfs", .flags = MS_RDONLY, .fallback_bind = "/sys"}}));
  EXPECT_EQ(calls_.log.back(), "bind /sys on /bundle/rootfs/sys recursive set=0x1 rset=0x1");
}

TEST_F(RunSteps, AFilesTargetIsAFile) {
  calls_.add("/host/hosts", {S_IFREG | 0644, 0, "x", 0});
  ASSERT_TRUE(run({plan::MountStep{
      .target = "/etc/hosts", .source = "/host/hosts", .flags = MS_RDONLY | MS_NOEXEC, .bind = true}}));
  EXPECT_EQ(calls_.log, (std::vector<std::string>{"create /bundle/rootfs/etc/hosts",
                                                  "bind /host/hosts on /bundle/rootfs/etc/hosts set=0x9"}));
}

TEST_F(RunSteps, IdMappedMountsAreTheCreatorsInTheirOrder) {
  calls_.add_dir("/host/a");
  calls_.add("/host/b", {S_IFREG | 0644, 0, {}, 0});
  prepared_ = {"/host/a", "/host/b"};
  plan::MountStep first{.target = "/a", .source = "/host/a", .flags = MS_RDONLY, .bind = true};
  first.id_map.emplace();
  plan::MountStep between{.target = "/etc", .source = "/host/a", .bind = true};
  plan::MountStep second{.target = "/b", .source = "/host/b", .bind = true};
  second.id_map.emplace();
  ASSERT_TRUE(run({first, between, second}));
  EXPECT_EQ(calls_.log,
            (std::vector<std::string>{"mkdir /bundle/rootfs/a", "attach /host/a on /bundle/rootfs/a set=0x1",
                                      "bind /host/a on /bundle/rootfs/etc", "create /bundle/rootfs/b",
                                      "attach /host/b on /bundle/rootfs/b"}));
}

TEST_F(RunSteps, ASourceOutOfReachIsTheCreatorsToOpen) {
  plan::MountStep step{.target = "/a", .source = "/closed/a", .flags = MS_RDONLY, .bind = true};
  calls_.unreachable = "/closed/";
  // What a creator answers that may not enter it either.
  ASSERT_TRUE(other_.send(container::MessageKind::kSource));
  auto done = run({plan::SetHostname{"x"}, step});
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, EACCES);
  EXPECT_THAT(done.error().message(), HasSubstr("mount '/a'"));
  auto asked = other_.receive();
  ASSERT_TRUE(asked);
  EXPECT_EQ(asked->kind, container::MessageKind::kSource);
  EXPECT_EQ(asked->value, 1) << "which of the steps it is";
}

TEST_F(RunSteps, MasksCoverFilesAndDirectoriesOfProc) {
  calls_.add("/bundle/rootfs/proc/kcore", {S_IFREG | 0400, 0, {}, 0});
  calls_.add_dir("/bundle/rootfs/proc/acpi");
  calls_.add_dir("/bundle/rootfs/proc/scsi");
  ASSERT_TRUE(run({plan::MaskStep{"/proc/kcore"}, plan::MaskStep{"/proc/acpi"}, plan::MaskStep{"/proc/scsi"},
                   plan::MaskStep{"/proc/absent"}}));
  ASSERT_EQ(calls_.log.size(), 3U);
  EXPECT_EQ(calls_.log[0], "bind /dev/null on /bundle/rootfs/proc/kcore set=0x1");
  EXPECT_THAT(calls_.log[1], HasSubstr("mount tmpfs on /bundle/rootfs/proc/acpi flags=0xf"));
  EXPECT_EQ(calls_.log[2], "bind /bundle/rootfs/proc/acpi on /bundle/rootfs/proc/scsi");
}

TEST_F(RunSteps, AProcThatIsNoneIsNotMasked) {
  calls_.entries["/bundle/rootfs/proc"].fs_type = TMPFS_MAGIC;
  calls_.add("/bundle/rootfs/proc/kcore", {S_IFREG | 0400, 0, {}, 0});
  EXPECT_FALSE(run({plan::MaskStep{"/proc/kcore"}}));
  EXPECT_FALSE(run({plan::ReadonlyStep{"/proc/kcore"}}));
}

TEST_F(RunSteps, ReadonlyChangesAMountOrBindsWhatIsNone) {
  calls_.add_dir("/bundle/rootfs/proc/sys");
  ASSERT_TRUE(run({plan::ReadonlyStep{"/proc/sys"}}));
  EXPECT_EQ(calls_.log, (std::vector<std::string>{"change /bundle/rootfs/proc/sys set=0x1"}));
  calls_.log.clear();
  calls_.failures["change /bundle/rootfs/proc/sys"] = EINVAL;
  ASSERT_TRUE(run({plan::ReadonlyStep{"/proc/sys"}}));
  EXPECT_EQ(calls_.log.back(), "bind /bundle/rootfs/proc/sys on /bundle/rootfs/proc/sys recursive set=0x1");
}

TEST_F(RunSteps, MountsAreMadeReadonlyThemselves) {
  calls_.add_dir("/bundle/rootfs/a");
  plan::MountStep mount{.target = "/a", .source = "tmpfs", .type = "tmpfs"};
  plan::MountStep later = mount;
  later.readonly_later = true;
  ASSERT_TRUE(run({later, mount, plan::ReadonlyMounts{}}));
  EXPECT_EQ(calls_.log.size(), 3U);
  EXPECT_EQ(calls_.log.back(), "change /bundle/rootfs/a set=0x1");
}

TEST_F(RunSteps, DevicesAreBoundOnlyWhereTheyAreWhatTheySay) {
  ASSERT_TRUE(
      run({plan::DeviceStep{"/dev/null", plan::DeviceMaking::kBind, S_IFCHR | 0666, makedev(1, 3), 0, 0}}));
  EXPECT_EQ(calls_.log.back(), "bind /dev/null on /bundle/rootfs/dev/null set=0xa");
  calls_.add("/dev/zero", {S_IFCHR | 0666, makedev(8, 8), {}, 0});
  EXPECT_FALSE(
      run({plan::DeviceStep{"/dev/zero", plan::DeviceMaking::kBind, S_IFCHR | 0666, makedev(1, 5), 0, 0}}));
}

TEST_F(RunSteps, NodesAreMadeWithTheirOwner) {
  ASSERT_TRUE(
      run({plan::DeviceStep{"/dev/x", plan::DeviceMaking::kNode, S_IFCHR | 0600, makedev(1, 3), 5, 6}}));
  EXPECT_EQ(calls_.log,
            (std::vector<std::string>{"mkdir /bundle/rootfs/dev", "mknod /bundle/rootfs/dev/x 20600 0x103",
                                      "chown /bundle/rootfs/dev/x 5:6 600"}));
  ASSERT_TRUE(
      run({plan::DeviceStep{"/dev/x", plan::DeviceMaking::kNode, S_IFCHR | 0600, makedev(1, 3), 5, 6}}));
  EXPECT_FALSE(
      run({plan::DeviceStep{"/dev/x", plan::DeviceMaking::kNode, S_IFCHR | 0600, makedev(1, 4), 5, 6}}));
}

TEST_F(RunSteps, SysctlsAreWrittenToProcfsOnly) {
  calls_.add("/proc/sys/net/ipv4/x", {S_IFREG | 0644, 0, {}, 0});
  ASSERT_TRUE(run({plan::SysctlStep{"net/ipv4/x", "1"}}));
  EXPECT_EQ(calls_.log, (std::vector<std::string>{"write /proc/sys/net/ipv4/x 1"}));
  calls_.add("/proc/sys/evil", {S_IFREG | 0644, 0, {}, EXT4_SUPER_MAGIC});
  EXPECT_FALSE(run({plan::SysctlStep{"evil", "1"}}));
}

TEST_F(RunSteps, UsersComeFromTheImage) {
  calls_.add("/bundle/rootfs/etc/passwd", {S_IFREG | 0644, 0, "app:x:7:8::/home/app:\n", 0});
  calls_.add("/bundle/rootfs/etc/group", {S_IFREG | 0644, 0, "more:x:9:app\n", 0});
  ASSERT_TRUE(run({plan::ResolveUser{"app"}}));
  EXPECT_EQ(process_.uid, 7U);
  EXPECT_EQ(process_.gid, 8U);
  EXPECT_EQ(process_.additional_gids, (std::vector<std::uint32_t>{8, 9}));
  EXPECT_THAT(process_.env, Contains("HOME=/home/app"));
  ids_.writer = plan::MapWriter::kDirect;
  ids_.uids = ids_.gids = {{0, 1000, 1}};
  auto done = run({plan::ResolveUser{"app"}});
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().message(), HasSubstr("/etc/subuid"));
}

TEST_F(RunSteps, APasswdThatIsNoFileIsAnError) {
  calls_.add("/bundle/rootfs/etc/passwd", {S_IFIFO | 0644, 0, {}, 0});
  EXPECT_FALSE(run({plan::ResolveUser{"0"}}));
}

TEST_F(RunSteps, TheFirstErrorEndsTheRunAndNamesItsStep) {
  calls_.failures["hostname"] = EPERM;
  auto done = run({plan::SetHostname{"box"}, plan::LoopbackUp{}});
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().message(), HasSubstr("set hostname 'box'"));
  EXPECT_THAT(calls_.log, Not(Contains("loopback up")));
}

TEST_F(RunSteps, PivotLeavesTheHostBehind) {
  ASSERT_TRUE(run({plan::Pivot{plan::PivotKind::kPivot, 0}}));
  EXPECT_EQ(calls_.log, (std::vector<std::string>{"chdir /bundle/rootfs", "pivot"}));
}

TEST_F(RunSteps, AWholeContainersOrder) {
  for (const char* name : {"/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"})
    calls_.add(name, {S_IFCHR | 0666, 0, {}, 0});
  unsigned minors[] = {5, 7, 8, 9};
  const char* names[] = {"/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"};
  for (int i = 0; i < 4; ++i) calls_.entries[names[i]].rdev = makedev(1, minors[i]);
  calls_.entries["/dev/tty"].rdev = makedev(5, 0);
  plan::RunOptions options;
  options.hostname = "box";
  auto planned = plan::plan_container(usual_spec(options), root_host(), usual_options());
  ASSERT_TRUE(planned);
  auto done = run(planned->steps);
  ASSERT_TRUE(done) << done.error().message();
  auto at = [&](const std::string& prefix) {
    for (std::size_t i = 0; i < calls_.log.size(); ++i)
      if (calls_.log[i].starts_with(prefix)) return i;
    ADD_FAILURE() << "no " << prefix;
    return calls_.log.size();
  };
  EXPECT_LT(at("unshare"), at("propagation /"));
  EXPECT_LT(at("propagation /"), at("bind /bundle/rootfs on /bundle/rootfs"));
  EXPECT_LT(at("bind /bundle/rootfs on"), at("mount proc on /bundle/rootfs/proc"));
  EXPECT_LT(at("mount proc"), at("mount tmpfs on /bundle/rootfs/dev "));
  EXPECT_LT(at("mount tmpfs on /bundle/rootfs/dev "), at("bind /dev/null on"));
  EXPECT_LT(at("bind /dev/null on"), at("hostname box"));
  EXPECT_EQ(at("pivot"), calls_.log.size() - 1);
}

}  // namespace
}  // namespace layerfs
