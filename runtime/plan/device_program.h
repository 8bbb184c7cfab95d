// SPDX-License-Identifier: Apache-2.0
// Device rules for cgroup v2, which has no controller of devices: a program of BPF_PROG_TYPE_CGROUP_DEVICE,
// run by the kernel at each open(2) and mknod(2) of a device by a process of the group (cgroup-v2.rst,
// "Device controller"). Pure: the instructions are values; sys/device_program.h loads them.
//
// (1) What may be done is decided for reading, writing and making nodes each by itself: by the last rule that
//     names the device and that way. All that is asked for must be allowed. So a rule that forbids writing
//     forbids opening for both, as on v1.
// (2) What no rule names is forbidden.
// (3) No instruction is unreachable, which the verifier refuses: what stands before a rule of everything is
//     left out.
#pragma once

#include <linux/bpf.h>

#include <vector>

#include "fs/base/result.h"
#include "runtime/spec/container_spec.h"

namespace layerfs::plan {

/// Later rules override earlier ones. Errors: kInvalid naming linux.resources.devices where a number is none
/// of a device.
Result<std::vector<bpf_insn>> make_device_program(const std::vector<spec::DeviceRule>& rules);

}  // namespace layerfs::plan
