// SPDX-License-Identifier: Apache-2.0
// Numbers of system calls that the libseccomp of a distribution may be too old to know (2.5.4 ends with Linux
// 6.6): a profile that allows such a call by its name must not refuse it. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "runtime/plan/seccomp_filter.h"

namespace layerfs::plan {

/// nullopt: a call that is older, is not known, or is none of this architecture.
std::optional<std::uint32_t> find_new_syscall(const SeccompArchitecture& architecture, std::string_view name);
/// It is one of those on some architecture.
bool is_new_syscall(std::string_view name);

}  // namespace layerfs::plan
