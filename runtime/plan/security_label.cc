// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/security_label.h"

#include <algorithm>
#include <array>

namespace layerfs::plan {

namespace {

/// Which option of mount(8) takes the label: Podman asks for "rootcontext" where the container relabels what
/// is in its mounts (crun(1)).
constexpr const char* kContextAnnotation = "run.oci.mount_context_type";
constexpr std::array<std::string_view, 4> kContextOptions{"context", "fscontext", "defcontext",
                                                          "rootcontext"};

std::string context_option(const spec::ContainerSpec& spec) {
  auto found = spec.annotations.find(kContextAnnotation);
  return found == spec.annotations.end() ? "context" : found->second;
}

bool takes_no_label(const std::string& type) {
  return type == "proc" || type == "sysfs" || type == "cgroup" || type == "cgroup2";
}

}  // namespace

AppArmorState parse_apparmor_state(std::string_view enabled, std::string_view current) {
  if (!enabled.starts_with('Y')) return AppArmorState::kAbsent;
  // "unconfined", or a profile and its mode: "docker-default (enforce)", "unconfined_x (complain)".
  std::string_view name = current.substr(0, current.find_first_of(" \n"));
  return name == "unconfined" || name.empty() ? AppArmorState::kUnconfined : AppArmorState::kConfined;
}

bool has_selinux(const std::vector<MountEntry>& mounts) {
  return std::ranges::find(mounts, "selinuxfs", &MountEntry::type) != mounts.end();
}

Result<void> plan_process_labels(const spec::Process& process, const HostFacts& host, ProcessPlan& plan) {
  const std::string& profile = process.apparmor_profile;
  if (host.apparmor == AppArmorState::kAbsent) {
    // Where there is no AppArmor everything is unconfined.
    if (!profile.empty() && profile != "unconfined")
      return unsupported_error("field", "process.apparmorProfile", "the host's kernel has no AppArmor");
  } else if (!profile.empty()) {
    // Who is confined may with no_new_privs only get a second profile on top of the own one (apparmor(7)).
    bool stacks = host.apparmor == AppArmorState::kConfined && process.no_new_privileges;
    plan.apparmor_change = (stacks ? "stack " : "exec ") + profile;
  }
  if (!process.selinux_label.empty() && !host.selinux)
    return unsupported_error("field", "process.selinuxLabel", "the host's kernel has no SELinux");
  plan.selinux_label = process.selinux_label;
  return {};
}

Result<void> check_mount_label(const spec::ContainerSpec& spec, const HostFacts& host) {
  if (spec.mount_label.empty()) return {};
  if (!host.selinux)
    return unsupported_error("field", "linux.mountLabel", "the host's kernel has no SELinux");
  // It stands in quotes among the options of a mount, since categories have commas ("s0:c1,c2").
  if (spec.mount_label.find_first_of("\"\n") != std::string::npos)
    return invalid_error("field", "linux.mountLabel", "has a quotation mark or a line break");
  if (std::ranges::find(kContextOptions, context_option(spec)) == kContextOptions.end())
    return invalid_error("field", std::string("annotations.") + kContextAnnotation,
                         "is no option of a mount: '" + context_option(spec) + "'");
  return {};
}

void add_mount_label(const spec::ContainerSpec& spec, MountStep& step) {
  if (spec.mount_label.empty() || step.bind || takes_no_label(step.type)) return;
  if (step.type == "mqueue") {
    step.label = spec.mount_label;
    return;
  }
  // What the mount's own options say goes first: the kernel takes a label once.
  if (step.data.find("context=") != std::string::npos) return;
  step.data += (step.data.empty() ? "" : ",") + context_option(spec) + "=\"" + spec.mount_label + '"';
}

}  // namespace layerfs::plan
