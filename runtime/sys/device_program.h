// SPDX-License-Identifier: Apache-2.0
// Loads a program of device rules (plan/device_program.h) and attaches it to a group of cgroup v2 (bpf(2)).
#pragma once

#include <linux/bpf.h>

#include <string>
#include <vector>

#include "fs/base/result.h"

namespace layerfs::sys {

/// From here on `program` decides on devices in the group `directory` and below it, in the place of what
/// another call attached; no moment is without rules. It goes with the group. Errors: EPERM (it needs
/// CAP_BPF, or CAP_SYS_ADMIN, and CAP_NET_ADMIN), EINVAL where the kernel is built without it.
Result<void> set_device_program(const std::string& directory, const std::vector<bpf_insn>& program);

}  // namespace layerfs::sys
