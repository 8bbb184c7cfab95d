// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/new_syscalls.h"

#include <algorithm>
#include <array>

namespace layerfs::plan {

namespace {

struct NewSyscall {
  std::string_view name;
  std::uint32_t number;
  std::string_view only_on;  ///< SCMP_ARCH_*; empty: on all
};

// scripts/syscall.tbl and arch/*/kernel/syscalls/*.tbl of Linux. Since 424 a call has one number everywhere,
// but for what MIPS adds to it.
constexpr std::array<NewSyscall, 22> kNewSyscalls{{
    {"cachestat", 451, {}},
    {"fchmodat2", 452, {}},
    {"map_shadow_stack", 453, {}},
    {"futex_wake", 454, {}},
    {"futex_wait", 455, {}},
    {"futex_requeue", 456, {}},
    {"statmount", 457, {}},
    {"listmount", 458, {}},
    {"lsm_get_self_attr", 459, {}},
    {"lsm_set_self_attr", 460, {}},
    {"lsm_list_modules", 461, {}},
    {"mseal", 462, {}},
    {"setxattrat", 463, {}},
    {"getxattrat", 464, {}},
    {"listxattrat", 465, {}},
    {"removexattrat", 466, {}},
    {"open_tree_attr", 467, {}},
    {"file_getattr", 468, {}},
    {"file_setattr", 469, {}},
    {"uretprobe", 335, "SCMP_ARCH_X86_64"},
    {"uprobe", 336, "SCMP_ARCH_X86_64"},
    {"riscv_hwprobe", 258, "SCMP_ARCH_RISCV64"},
}};

constexpr std::uint32_t kX32Base = 0x40000000;
constexpr std::uint32_t kMips64Base = 5000;

}  // namespace

std::optional<std::uint32_t> find_new_syscall(const SeccompArchitecture& architecture,
                                              std::string_view name) {
  const auto* found = std::ranges::find(kNewSyscalls, name, &NewSyscall::name);
  if (found == kNewSyscalls.end()) return std::nullopt;
  std::string_view own(architecture.name);
  if (!found->only_on.empty()) return found->only_on == own ? std::optional(found->number) : std::nullopt;
  if (architecture.x32) return found->number | kX32Base;
  if (own == "SCMP_ARCH_MIPS64" || own == "SCMP_ARCH_MIPSEL64") return found->number + kMips64Base;
  return found->number;
}

bool is_new_syscall(std::string_view name) {
  return std::ranges::find(kNewSyscalls, name, &NewSyscall::name) != kNewSyscalls.end();
}

}  // namespace layerfs::plan
