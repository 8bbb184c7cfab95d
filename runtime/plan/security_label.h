// SPDX-License-Identifier: Apache-2.0
// Labels of the kernel's security modules, as what is written where: the profile of AppArmor and the label of
// SELinux that a program gets at its exec, and the label of mounts. Pure; safe from any thread.
//
// (1) A label that the kernel has no module for is an error naming its field, never left out in silence.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/mount_info.h"
#include "fs/base/result.h"
#include "runtime/plan/container_plan.h"
#include "runtime/spec/container_spec.h"

namespace layerfs::plan {

/// From /sys/module/apparmor/parameters/enabled and /proc/self/attr/apparmor/current; "" for a file that is
/// not there.
AppArmorState parse_apparmor_state(std::string_view enabled, std::string_view current);
/// SELinux counts as there where its file system is mounted (selinux(8)).
bool has_selinux(const std::vector<MountEntry>& mounts);

/// Sets `apparmor_change` and `selinux_label` of `plan`. Errors: kUnsupported naming the field.
Result<void> plan_process_labels(const spec::Process& process, const HostFacts& host, ProcessPlan& plan);

/// Puts linux.mountLabel into a new mount: into its options, or for a file system that has no such option
/// (mqueue) into `label`. A bind mount keeps the label of its source, and procfs, sysfs and cgroups take
/// none. Requires: a label that check_mount_label() accepts.
void add_mount_label(const spec::ContainerSpec& spec, MountStep& step);
/// Errors: kUnsupported, kInvalid naming the field or the annotation.
Result<void> check_mount_label(const spec::ContainerSpec& spec, const HostFacts& host);

}  // namespace layerfs::plan
