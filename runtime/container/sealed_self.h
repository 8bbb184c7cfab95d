// SPDX-License-Identifier: Apache-2.0
// This process as a sealed copy of its own program. Where a process of ours enters a pid namespace in which
// others run already, those may have CAP_SYS_PTRACE, and /proc/PID/exe leads them to the file that it
// executes: it must not be the runtime's own on the host (the class of CVE-2019-5736), from its birth there
// on.
#pragma once

#include "fs/base/result.h"
#include "runtime/spec/container_spec.h"

namespace layerfs::container {

/// Whether a process that joins these shows itself to others who may trace it. In a user namespace that is
/// joined too nobody may: an undumpable process belongs to the namespace in which its program was executed
/// (ptrace(2), "Ptrace access mode checking").
bool shows_itself_in(const std::vector<spec::Namespace>& joins);

/// Returns where this process is such a copy. Else executes one with the same arguments, environment and open
/// descriptors, and does not return: nothing that cannot be done twice may have been done, and what holds a
/// lock must be close-on-exec. Errors: those of memfd_create(2) and execveat(2).
Result<void> become_sealed();

}  // namespace layerfs::container
