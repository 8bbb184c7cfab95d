// SPDX-License-Identifier: Apache-2.0
// The filter's programs, run by a small interpreter of the instructions that the generator uses.
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>

#include <cstring>
#include <map>
#include <random>

#include "runtime/container/seccomp_program.h"
#include "runtime/plan/capability_set.h"
#include "runtime/plan/new_syscalls.h"
#include "runtime/plan/seccomp_default.h"
#include "runtime/plan/seccomp_filter.h"

namespace layerfs::plan {
namespace {

using spec::SeccompAction;
using spec::SeccompCompare;

std::uint32_t run(const std::vector<sock_filter>& program, const seccomp_data& data) {
  std::uint32_t accumulator = 0;
  for (std::size_t pc = 0; pc < program.size(); ++pc) {
    const sock_filter& step = program[pc];
    switch (step.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        std::memcpy(&accumulator, reinterpret_cast<const char*>(&data) + step.k, sizeof accumulator);
        break;
      case BPF_RET | BPF_K: return step.k;
      case BPF_JMP | BPF_JA: pc += step.k; break;
      case BPF_JMP | BPF_K | BPF_JEQ: pc += accumulator == step.k ? step.jt : step.jf; break;
      case BPF_JMP | BPF_K | BPF_JGE: pc += accumulator >= step.k ? step.jt : step.jf; break;
      case BPF_JMP | BPF_K | BPF_JGT: pc += accumulator > step.k ? step.jt : step.jf; break;
      case BPF_ALU | BPF_AND | BPF_K: accumulator &= step.k; break;
      default: ADD_FAILURE() << "instruction " << step.code; return 0;
    }
  }
  ADD_FAILURE() << "ran off the end";
  return 0;
}

seccomp_data call(std::uint32_t number, std::vector<std::uint64_t> args = {}, std::uint32_t arch = 0) {
  seccomp_data data{};
  data.nr = static_cast<int>(number);
  data.arch = arch != 0 ? arch : native_seccomp_architecture().audit_arch;
  for (std::size_t i = 0; i < args.size(); ++i) data.args[i] = args[i];
  return data;
}

/// "n5" is number 5.
constexpr auto by_name = [](const SeccompArchitecture&,
                            const std::string& name) -> std::optional<std::uint32_t> {
  if (!name.starts_with('n')) return std::nullopt;
  return static_cast<std::uint32_t>(std::stoul(name.substr(1)));
};

std::uint32_t fails(int code) { return SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(code); }

spec::Seccomp deny_by_default(std::vector<spec::SeccompRule> rules) {
  spec::Seccomp profile;
  profile.default_action = SeccompAction::kErrno;
  profile.default_errno = ENOSYS;
  profile.rules = std::move(rules);
  return profile;
}

TEST(SeccompFilter, EachNumberHasItsOwnAnswer) {
  std::mt19937 random(7);
  for (int round = 0; round < 50; ++round) {
    std::vector<spec::SeccompRule> rules;
    std::map<std::uint32_t, std::uint32_t> expected;
    for (int i = 0; i < 300; ++i) {
      std::uint32_t number = random() % 500;
      std::uint32_t errno_value = random() % 3;
      bool allow = random() % 2 == 0;
      rules.push_back({{"n" + std::to_string(number)},
                       allow ? SeccompAction::kAllow : SeccompAction::kErrno,
                       errno_value,
                       {}});
      expected.try_emplace(number, allow ? SECCOMP_RET_ALLOW : fails(static_cast<int>(errno_value)));
    }
    auto program = compile_seccomp(deny_by_default(rules), by_name);
    ASSERT_TRUE(program) << program.error().message();
    for (std::uint32_t number = 0; number < 600; ++number) {
      auto found = expected.find(number);
      ASSERT_EQ(run(*program, call(number)), found == expected.end() ? fails(ENOSYS) : found->second)
          << "round " << round << " number " << number;
    }
  }
}

bool holds(SeccompCompare compare, std::uint64_t value, std::uint64_t other, std::uint64_t two) {
  switch (compare) {
    case SeccompCompare::kNotEqual: return value != other;
    case SeccompCompare::kLess: return value < other;
    case SeccompCompare::kLessEqual: return value <= other;
    case SeccompCompare::kEqual: return value == other;
    case SeccompCompare::kGreaterEqual: return value >= other;
    case SeccompCompare::kGreater: return value > other;
    case SeccompCompare::kMaskedEqual: return (value & other) == two;
  }
  return false;
}

TEST(SeccompFilter, ComparesAllOf64Bits) {
  const std::uint64_t values[] = {0,           1,           2,           0xffffffff, 0x100000000,
                                  0x100000001, 0x1ffffffff, 0x200000000, ~0ULL};
  for (int kind = 0; kind <= static_cast<int>(SeccompCompare::kMaskedEqual); ++kind) {
    auto compare = static_cast<SeccompCompare>(kind);
    for (std::uint64_t constant : values) {
      std::uint64_t two = constant & 0x100000001;
      auto program = compile_seccomp(
          deny_by_default({{{"n1"}, SeccompAction::kAllow, {}, {{3, constant, two, compare}}}}), by_name);
      ASSERT_TRUE(program);
      for (std::uint64_t value : values)
        ASSERT_EQ(run(*program, call(1, {0, 0, 0, value})) == SECCOMP_RET_ALLOW,
                  holds(compare, value, constant, two))
            << "compare " << kind << ' ' << value << " with " << constant;
    }
  }
}

TEST(SeccompFilter, ArgumentsAreAllMetAndRulesAskedInOrder) {
  auto program = compile_seccomp(
      deny_by_default({{{"n1"},
                        SeccompAction::kErrno,
                        5,
                        {{0, 1, 0, SeccompCompare::kEqual}, {1, 2, 0, SeccompCompare::kEqual}}},
                       {{"n1"}, SeccompAction::kAllow, {}, {{0, 1, 0, SeccompCompare::kEqual}}}}),
      by_name);
  EXPECT_EQ(run(*program, call(1, {1, 2})), fails(5));
  EXPECT_EQ(run(*program, call(1, {1, 3})), SECCOMP_RET_ALLOW);
  EXPECT_EQ(run(*program, call(1, {0, 2})), fails(ENOSYS));
}

TEST(SeccompFilter, ARuleWithoutArgumentsDecidesAlone) {
  auto program = compile_seccomp(
      deny_by_default({{{"n1"}, SeccompAction::kErrno, 5, {{0, 1, 0, SeccompCompare::kEqual}}},
                       {{"n1"}, SeccompAction::kAllow, {}, {}},
                       {{"n1"}, SeccompAction::kErrno, 6, {{0, 2, 0, SeccompCompare::kEqual}}}}),
      by_name);
  for (std::uint64_t value : {0, 1, 2}) EXPECT_EQ(run(*program, call(1, {value})), SECCOMP_RET_ALLOW);
}

TEST(SeccompFilter, NotifyingHasAListener) {
  spec::Seccomp profile;
  profile.default_action = SeccompAction::kAllow;
  profile.flags = {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"};
  EXPECT_FALSE(seccomp_filter_flags(profile));
  profile.rules = {{{"n1"}, SeccompAction::kNotify, {}, {}}};
  EXPECT_EQ(seccomp_filter_flags(profile),
            SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV | SECCOMP_FILTER_FLAG_NEW_LISTENER);
  profile.flags = {"SECCOMP_FILTER_FLAG_TSYNC"};
  EXPECT_EQ(seccomp_filter_flags(profile),
            SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH | SECCOMP_FILTER_FLAG_NEW_LISTENER);
  auto program = compile_seccomp(profile, by_name);
  ASSERT_TRUE(program);
  EXPECT_EQ(run(*program, call(1)), SECCOMP_RET_USER_NOTIF);
  EXPECT_EQ(run(*program, call(2)), SECCOMP_RET_ALLOW);
}

TEST(SeccompFilter, AnotherArchitectureIsKilled) {
  auto program = compile_seccomp(deny_by_default({{{"n1"}, SeccompAction::kAllow, {}, {}}}), by_name);
  EXPECT_EQ(run(*program, call(1, {}, 0x12345678)), static_cast<std::uint32_t>(SECCOMP_RET_KILL_PROCESS));
#if defined(__x86_64__)
  EXPECT_EQ(run(*program, call(0x40000001)), static_cast<std::uint32_t>(SECCOMP_RET_KILL_PROCESS)) << "x32";
  EXPECT_EQ(run(*program, call(1, {}, AUDIT_ARCH_I386)),
            static_cast<std::uint32_t>(SECCOMP_RET_KILL_PROCESS));
#endif
}

TEST(SeccompFilter, ListedArchitecturesHaveTheirOwnNumbers) {
  spec::Seccomp profile = deny_by_default({{{"call"}, SeccompAction::kAllow, {}, {}}});
  profile.architectures = {"SCMP_ARCH_X86", "SCMP_ARCH_AARCH64"};
  auto resolve = [](const SeccompArchitecture& arch, const std::string&) -> std::optional<std::uint32_t> {
    return arch.audit_arch == AUDIT_ARCH_I386 ? 11 : 22;
  };
  auto program = compile_seccomp(profile, resolve);
  ASSERT_TRUE(program);
  EXPECT_EQ(run(*program, call(11, {}, AUDIT_ARCH_I386)), SECCOMP_RET_ALLOW);
  EXPECT_EQ(run(*program, call(22, {}, AUDIT_ARCH_I386)), fails(ENOSYS));
  EXPECT_EQ(run(*program, call(22, {}, AUDIT_ARCH_AARCH64)), SECCOMP_RET_ALLOW);
  profile.architectures = {"SCMP_ARCH_VAX"};
  EXPECT_FALSE(compile_seccomp(profile, resolve));
  profile.architectures = {"vax"};
  EXPECT_FALSE(compile_seccomp(profile, resolve));
}

TEST(SeccompFilter, FlagsAreNamed) {
  spec::Seccomp profile;
  profile.flags = {"SECCOMP_FILTER_FLAG_LOG"};
  EXPECT_EQ(*seccomp_filter_flags(profile), static_cast<unsigned>(SECCOMP_FILTER_FLAG_LOG));
  profile.flags = {"WHAT"};
  EXPECT_FALSE(seccomp_filter_flags(profile));
}

std::uint32_t native(const char* name) {
  return static_cast<std::uint32_t>(::seccomp_syscall_resolve_name(name));
}

TEST(DefaultSeccomp, AllowsTheUsualAndRefusesTheDangerous) {
  auto program =
      container::make_seccomp_program(default_seccomp(default_capabilities(), ContainerUsers::kOwn));
  ASSERT_TRUE(program) << program.error().message();
  const auto& code = program->instructions;
  EXPECT_LT(code.size(), 4096U);
  for (const char* name : {"read", "execve", "openat", "clone", "socket", "futex", "chroot", "close_range"})
    EXPECT_EQ(run(code, call(native(name))), SECCOMP_RET_ALLOW) << name;
  for (const char* name :
       {"bpf", "kexec_load", "init_module", "swapon", "userfaultfd", "setns", "perf_event_open", "acct"})
    EXPECT_EQ(run(code, call(native(name))), fails(EPERM)) << name;
  EXPECT_EQ(run(code, call(400'000)), fails(ENOSYS)) << "a call of the future";
  EXPECT_EQ(run(code, call(native("personality"), {0})), SECCOMP_RET_ALLOW);
  EXPECT_EQ(run(code, call(native("personality"), {0x40000})), fails(ENOSYS));
}

TEST(DefaultSeccomp, FollowsCapabilities) {
  auto with = container::make_seccomp_program(
      default_seccomp({"CAP_SYS_ADMIN", "CAP_AUDIT_WRITE"}, ContainerUsers::kOwn));
  auto without = container::make_seccomp_program(default_seccomp({}, ContainerUsers::kOwn));
  ASSERT_TRUE(with && without);
  EXPECT_EQ(run(with->instructions, call(native("bpf"))), SECCOMP_RET_ALLOW);
  EXPECT_EQ(run(without->instructions, call(native("chroot"))), fails(EPERM));
  // An audit socket is no such thing without CAP_AUDIT_WRITE; every other is.
  EXPECT_EQ(run(with->instructions, call(native("socket"), {16, 3, 9})), SECCOMP_RET_ALLOW);
  EXPECT_EQ(run(without->instructions, call(native("socket"), {16, 3, 9})), fails(EINVAL));
  EXPECT_EQ(run(without->instructions, call(native("socket"), {16, 3, 0})), SECCOMP_RET_ALLOW);
  EXPECT_EQ(run(without->instructions, call(native("socket"), {2, 1, 0})), SECCOMP_RET_ALLOW);
}

TEST(DefaultSeccomp, NamespacesOfTheHostsUsersNeedSysAdmin) {
  auto of = [](const std::vector<std::string>& capabilities, ContainerUsers users) {
    return container::make_seccomp_program(default_seccomp(capabilities, users))->instructions;
  };
  auto hosts = of(default_capabilities(), ContainerUsers::kHosts);
  for (const char* name :
       {"mount", "umount2", "unshare", "setns", "open_tree", "fsopen", "move_mount", "syslog"})
    EXPECT_EQ(run(hosts, call(native(name))), fails(EPERM)) << name;
  EXPECT_EQ(run(hosts, call(native("clone3"))), fails(ENOSYS)) << "its flags cannot be seen";
  EXPECT_EQ(run(hosts, call(native("clone"), {CLONE_VM | CLONE_THREAD | SIGCHLD})), SECCOMP_RET_ALLOW);
  for (std::uint64_t flag : {CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET})
    EXPECT_EQ(run(hosts, call(native("clone"), {flag | SIGCHLD})), fails(EPERM)) << flag;
  for (const char* name : {"read", "fork", "execve", "socket", "listmount"})
    EXPECT_NE(run(hosts, call(native(name))), fails(EPERM)) << name;
  EXPECT_EQ(run(of({"CAP_SYSLOG"}, ContainerUsers::kHosts), call(native("syslog"))), SECCOMP_RET_ALLOW);
  for (const auto& free : {of({"CAP_SYS_ADMIN"}, ContainerUsers::kHosts), of({}, ContainerUsers::kOwn)})
    for (const char* name : {"mount", "unshare", "clone3", "clone", "syslog"})
      EXPECT_EQ(run(free, call(native(name), {CLONE_NEWUSER})), SECCOMP_RET_ALLOW) << name;
}

TEST(DefaultSeccomp, EveryNameIsKnown) {
  for (auto users : {ContainerUsers::kOwn, ContainerUsers::kHosts})
    for (const auto& rule : default_seccomp(default_capabilities(), users).rules)
      for (const auto& name : rule.names)
        EXPECT_TRUE(::seccomp_syscall_resolve_name(name.c_str()) != __NR_SCMP_ERROR || is_new_syscall(name))
            << name;
}

TEST(NewSyscalls, AreAllowedWhereTheLibraryIsOlder) {
  auto program =
      container::make_seccomp_program(default_seccomp(default_capabilities(), ContainerUsers::kOwn));
  ASSERT_TRUE(program);
#if defined(__x86_64__)
  EXPECT_EQ(run(program->instructions, call(335)), SECCOMP_RET_ALLOW) << "uretprobe";
  EXPECT_EQ(run(program->instructions, call(0x40000000 | 462)), SECCOMP_RET_ALLOW) << "mseal of x32";
#endif
  for (std::uint32_t number : {451U, 452U, 457U, 458U, 462U, 463U, 464U, 465U, 466U})
    EXPECT_EQ(run(program->instructions, call(number)), SECCOMP_RET_ALLOW) << number;
  EXPECT_EQ(run(program->instructions, call(459)), fails(ENOSYS)) << "known, and of no rule";
}

TEST(NewSyscalls, HaveTheNumbersOfTheirArchitecture) {
  auto number = [](const char* architecture, const char* name) {
    return find_new_syscall(*get_seccomp_architecture(architecture), name);
  };
  EXPECT_EQ(number("SCMP_ARCH_X86_64", "mseal"), 462U);
  EXPECT_EQ(number("SCMP_ARCH_X32", "mseal"), 0x40000000U + 462);
  EXPECT_EQ(number("SCMP_ARCH_MIPS64", "mseal"), 5462U);
  EXPECT_EQ(number("SCMP_ARCH_X86", "uretprobe"), std::nullopt);
  EXPECT_EQ(number("SCMP_ARCH_RISCV64", "riscv_hwprobe"), 258U);
  EXPECT_EQ(number("SCMP_ARCH_X86_64", "no_such_call"), std::nullopt);
  // Where the library knows the call, it says the same.
  for (const char* name : {"cachestat", "fchmodat2", "statmount", "mseal", "getxattrat", "uretprobe"})
    if (int known = ::seccomp_syscall_resolve_name_arch(SCMP_ARCH_X86_64, name); known >= 0) {
      EXPECT_EQ(number("SCMP_ARCH_X86_64", name), static_cast<std::uint32_t>(known)) << name;
    }
}

}  // namespace
}  // namespace layerfs::plan
