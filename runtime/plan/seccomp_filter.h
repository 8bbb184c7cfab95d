// SPDX-License-Identifier: Apache-2.0
// A seccomp profile as the BPF program that the kernel takes (seccomp(2)). Pure: the numbers of system calls
// come from a resolver.
//
// Why not libseccomp's own generator: it takes about 10 ms for the default profile, a third of a container's
// start; this one takes 0.3 ms, and its program finds a system call by bisection of number ranges.
//
// (1) A rule without arguments decides its system call alone, the first of several (as libseccomp).
// (2) Else the rules with arguments are asked in order, then the default action.
// (3) A system call of an architecture that is not listed kills the process.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "fs/base/function_ref.h"
#include "fs/base/result.h"
#include "runtime/spec/container_spec.h"

namespace layerfs::plan {

struct SeccompArchitecture {
  const char* name;          ///< SCMP_ARCH_X86_64
  std::uint32_t audit_arch;  ///< AUDIT_ARCH_* of linux/audit.h
  bool x32;                  ///< shares the token of x86_64; its numbers have bit 30 set
};

/// Errors: kInvalid for a name that is none; kUnsupported for one that this runtime does not know.
Result<SeccompArchitecture> get_seccomp_architecture(const std::string& name);
/// This machine's.
SeccompArchitecture native_seccomp_architecture();

/// The number of a system call; nullopt where the architecture has none of that name.
using SyscallResolver = FunctionRef<std::optional<std::uint32_t>(const SeccompArchitecture& architecture,
                                                                 const std::string& name)>;

/// Errors: kUnsupported (see above), kInvalid where the program would be longer than the kernel takes.
Result<std::vector<sock_filter>> compile_seccomp(const spec::Seccomp& profile, SyscallResolver resolve);

/// SECCOMP_FILTER_FLAG_* of the profile's flags. Errors: kInvalid naming the flag.
Result<unsigned> seccomp_filter_flags(const spec::Seccomp& profile);

}  // namespace layerfs::plan
