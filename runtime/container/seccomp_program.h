// SPDX-License-Identifier: Apache-2.0
// A seccomp profile as a program for this machine: plan::compile_seccomp with libseccomp's tables of system
// calls.
#pragma once

#include <linux/filter.h>

#include <vector>

#include "fs/base/result.h"
#include "runtime/spec/container_spec.h"

namespace layerfs::container {

struct SeccompProgram {
  std::vector<sock_filter> instructions;
  unsigned flags = 0;
};

/// System calls that libseccomp does not know are left out, as other runtimes do: the default action answers
/// them.
Result<SeccompProgram> make_seccomp_program(const spec::Seccomp& profile);

}  // namespace layerfs::container
