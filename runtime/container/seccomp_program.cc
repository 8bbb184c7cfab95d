// SPDX-License-Identifier: Apache-2.0
#include "runtime/container/seccomp_program.h"

#include <seccomp.h>

#include <string_view>

#include "runtime/plan/new_syscalls.h"
#include "runtime/plan/seccomp_filter.h"

namespace layerfs::container {

namespace {

std::uint32_t library_architecture(std::string_view name) {
  if (name == "SCMP_ARCH_X86") return SCMP_ARCH_X86;
  if (name == "SCMP_ARCH_X86_64") return SCMP_ARCH_X86_64;
  if (name == "SCMP_ARCH_X32") return SCMP_ARCH_X32;
  if (name == "SCMP_ARCH_ARM") return SCMP_ARCH_ARM;
  if (name == "SCMP_ARCH_AARCH64") return SCMP_ARCH_AARCH64;
  if (name == "SCMP_ARCH_RISCV64") return SCMP_ARCH_RISCV64;
  if (name == "SCMP_ARCH_PPC64LE") return SCMP_ARCH_PPC64LE;
  if (name == "SCMP_ARCH_PPC64") return SCMP_ARCH_PPC64;
  if (name == "SCMP_ARCH_S390X") return SCMP_ARCH_S390X;
  if (name == "SCMP_ARCH_S390") return SCMP_ARCH_S390;
  if (name == "SCMP_ARCH_MIPS64") return SCMP_ARCH_MIPS64;
  if (name == "SCMP_ARCH_MIPSEL64") return SCMP_ARCH_MIPSEL64;
  return 0;
}

}  // namespace

Result<SeccompProgram> make_seccomp_program(const spec::Seccomp& profile) {
  auto resolve = [](const plan::SeccompArchitecture& architecture,
                    const std::string& name) -> std::optional<std::uint32_t> {
    std::uint32_t token = library_architecture(architecture.name);
    if (token == 0) return std::nullopt;
    int number = ::seccomp_syscall_resolve_name_arch(token, name.c_str());
    // Below zero: unknown, or a pseudo number of a call that this architecture makes through another one.
    if (number == __NR_SCMP_ERROR) return plan::find_new_syscall(architecture, name);
    if (number < 0) return std::nullopt;
    return static_cast<std::uint32_t>(number);
  };
  if (profile.known_calls_only)
    for (const auto& rule : profile.rules)
      for (const auto& name : rule.names)
        if (::seccomp_syscall_resolve_name(name.c_str()) == __NR_SCMP_ERROR && !plan::is_new_syscall(name))
          return invalid_error("field", "linux.seccomp.syscalls",
                               "names an unknown system call '" + name + "'");
  SeccompProgram program;
  LAYERFS_ASSIGN(program.instructions, plan::compile_seccomp(profile, resolve));
  LAYERFS_ASSIGN(program.flags, plan::seccomp_filter_flags(profile));
  return program;
}

}  // namespace layerfs::container
