// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/step.h"

namespace layerfs::plan {

namespace {

std::string quoted(std::string_view what, std::string_view subject) {
  return std::string(what) + " '" + std::string(subject) + "'";
}

struct Describe {
  std::string operator()(const UnshareCgroup&) const { return "make cgroup namespace"; }
  std::string operator()(const SetPropagation&) const { return "set mount propagation of '/'"; }
  std::string operator()(const MountFuseRoot& step) const {
    return quoted("mount root file system", step.directory);
  }
  std::string operator()(const BindRoot& step) const { return quoted("mount root", step.directory); }
  std::string operator()(const MountStep& step) const { return quoted("mount", step.target); }
  std::string operator()(const LinkStep& step) const { return quoted("make link", step.path); }
  std::string operator()(const DeviceStep& step) const { return quoted("make device", step.path); }
  std::string operator()(const ConsoleStep&) const { return "make console"; }
  std::string operator()(const MaskStep& step) const { return quoted("mask path", step.path); }
  std::string operator()(const ReadonlyStep& step) const { return quoted("make read-only", step.path); }
  std::string operator()(const ReadonlyMounts&) const { return "make mounts read-only"; }
  std::string operator()(const ReadonlyRoot&) const { return "make root read-only"; }
  std::string operator()(const SysctlStep& step) const { return quoted("set sysctl", step.key); }
  std::string operator()(const RuntimeHooks&) const { return "run createRuntime hooks"; }
  std::string operator()(const ContainerHooks&) const { return "run createContainer hooks"; }
  std::string operator()(const Pivot&) const { return "change root"; }
  std::string operator()(const SetHostname& step) const { return quoted("set hostname", step.name); }
  std::string operator()(const SetDomainname& step) const { return quoted("set domainname", step.name); }
  std::string operator()(const LoopbackUp&) const { return "bring up interface 'lo'"; }
  std::string operator()(const MakeDirectory& step) const { return quoted("make directory", step.path); }
  std::string operator()(const ResolveUser& step) const { return quoted("look up user", step.user); }
};

}  // namespace

std::string describe(const Step& step) { return std::visit(Describe{}, step); }

}  // namespace layerfs::plan
