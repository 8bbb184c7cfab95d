// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/seccomp_filter.h"

#include <elf.h>
#include <linux/audit.h>
#include <linux/seccomp.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <map>

namespace layerfs::plan {

namespace {

using spec::SeccompAction;
using spec::SeccompArg;
using spec::SeccompCompare;
using spec::SeccompRule;
using Program = std::vector<sock_filter>;

constexpr std::uint32_t kX32Bit = 0x40000000;

constexpr std::array<SeccompArchitecture, 12> kKnownArchitectures{{
    {"SCMP_ARCH_X86_64", AUDIT_ARCH_X86_64, false},
    {"SCMP_ARCH_X86", AUDIT_ARCH_I386, false},
    {"SCMP_ARCH_X32", AUDIT_ARCH_X86_64, true},
    {"SCMP_ARCH_AARCH64", AUDIT_ARCH_AARCH64, false},
    {"SCMP_ARCH_ARM", AUDIT_ARCH_ARM, false},
    {"SCMP_ARCH_RISCV64", AUDIT_ARCH_RISCV64, false},
    {"SCMP_ARCH_PPC64LE", AUDIT_ARCH_PPC64LE, false},
    {"SCMP_ARCH_S390X", AUDIT_ARCH_S390X, false},
    {"SCMP_ARCH_S390", AUDIT_ARCH_S390, false},
    {"SCMP_ARCH_MIPS64", AUDIT_ARCH_MIPS64, false},
    {"SCMP_ARCH_MIPSEL64", AUDIT_ARCH_MIPSEL64, false},
    {"SCMP_ARCH_PPC64", AUDIT_ARCH_PPC64, false},
}};

sock_filter statement(unsigned code, std::uint32_t k) { return {static_cast<std::uint16_t>(code), 0, 0, k}; }
sock_filter jump(unsigned code, std::uint32_t k, unsigned yes, unsigned no) {
  return {static_cast<std::uint16_t>(code), static_cast<std::uint8_t>(yes), static_cast<std::uint8_t>(no), k};
}
sock_filter give(std::uint32_t action) { return statement(BPF_RET | BPF_K, action); }
sock_filter load(std::uint32_t offset) { return statement(BPF_LD | BPF_W | BPF_ABS, offset); }

std::uint32_t action_value(SeccompAction action, std::optional<std::uint32_t> errno_value) {
  switch (action) {
    case SeccompAction::kAllow: return SECCOMP_RET_ALLOW;
    case SeccompAction::kErrno: return SECCOMP_RET_ERRNO | (errno_value.value_or(EPERM) & SECCOMP_RET_DATA);
    case SeccompAction::kKillThread: return SECCOMP_RET_KILL_THREAD;
    case SeccompAction::kKillProcess: return SECCOMP_RET_KILL_PROCESS;
    case SeccompAction::kTrap: return SECCOMP_RET_TRAP;
    case SeccompAction::kTrace: return SECCOMP_RET_TRACE | (errno_value.value_or(EPERM) & SECCOMP_RET_DATA);
    case SeccompAction::kLog: return SECCOMP_RET_LOG;
    case SeccompAction::kNotify: return SECCOMP_RET_USER_NOTIF;
  }
  return SECCOMP_RET_KILL_PROCESS;
}

/// What happens to a range of numbers: an action, or rules with arguments to be asked.
struct Decision {
  std::uint32_t action = 0;
  std::vector<const SeccompRule*> conditional;
  bool operator==(const Decision&) const = default;
};

struct Range {
  std::uint32_t first;
  Decision decision;
};

/// A comparison's jumps: to the next rule where it fails, past the comparison where it passes early.
class RuleEmitter {
 public:
  explicit RuleEmitter(Program& program) : program_(program) {}

  void emit(const SeccompRule& rule) {
    for (const auto& arg : rule.args) compare(arg);
    program_.push_back(give(action_value(rule.action, rule.errno_value)));
    for (auto [at, on_true] : fails_) {
      auto distance = static_cast<std::uint8_t>(program_.size() - at - 1);
      (on_true ? program_[at].jt : program_[at].jf) = distance;
    }
  }

 private:
  void load_half(const SeccompArg& arg, bool high) {
    std::uint32_t offset = static_cast<std::uint32_t>(offsetof(seccomp_data, args)) + 8 * arg.index;
    bool second = high == (std::endian::native == std::endian::little);
    program_.push_back(load(offset + (second ? 4 : 0)));
  }
  /// Continues where the test is `wanted`, else fails.
  void test(unsigned code, std::uint32_t k, bool wanted) {
    fails_.push_back({program_.size(), !wanted});
    program_.push_back(jump(BPF_JMP | BPF_K | code, k, 0, 0));
  }
  /// high > value: `greater`; high < value: not `greater`; equal: goes on to the low half with `code` ==
  /// wanted.
  void ordered(const SeccompArg& arg, unsigned code, bool wanted) {
    auto high = static_cast<std::uint32_t>(arg.value >> 32);
    auto low = static_cast<std::uint32_t>(arg.value);
    load_half(arg, true);
    if (wanted) {
      // Passing early jumps over: jeq, load, test.
      program_.push_back(jump(BPF_JMP | BPF_K | BPF_JGT, high, 3, 0));
      test(BPF_JEQ, high, true);
    } else {
      test(BPF_JGT, high, false);
      program_.push_back(jump(BPF_JMP | BPF_K | BPF_JEQ, high, 0, 2));
    }
    load_half(arg, false);
    test(code, low, wanted);
  }
  void compare(const SeccompArg& arg) {
    auto high = static_cast<std::uint32_t>(arg.value >> 32);
    auto low = static_cast<std::uint32_t>(arg.value);
    switch (arg.compare) {
      case SeccompCompare::kEqual:
        load_half(arg, true);
        test(BPF_JEQ, high, true);
        load_half(arg, false);
        test(BPF_JEQ, low, true);
        return;
      case SeccompCompare::kNotEqual:
        load_half(arg, true);
        program_.push_back(jump(BPF_JMP | BPF_K | BPF_JEQ, high, 0, 2));
        load_half(arg, false);
        test(BPF_JEQ, low, false);
        return;
      case SeccompCompare::kGreaterEqual: return ordered(arg, BPF_JGE, true);
      case SeccompCompare::kGreater: return ordered(arg, BPF_JGT, true);
      case SeccompCompare::kLess: return ordered(arg, BPF_JGE, false);
      case SeccompCompare::kLessEqual: return ordered(arg, BPF_JGT, false);
      case SeccompCompare::kMaskedEqual:
        load_half(arg, true);
        program_.push_back(statement(BPF_ALU | BPF_AND | BPF_K, high));
        test(BPF_JEQ, static_cast<std::uint32_t>(arg.value_two >> 32), true);
        load_half(arg, false);
        program_.push_back(statement(BPF_ALU | BPF_AND | BPF_K, low));
        test(BPF_JEQ, static_cast<std::uint32_t>(arg.value_two), true);
        return;
    }
  }

  struct Fail {
    std::size_t at;
    bool on_true;
  };
  Program& program_;
  std::vector<Fail> fails_;
};

Program emit_decision(const Decision& decision) {
  Program program;
  for (const SeccompRule* rule : decision.conditional) RuleEmitter(program).emit(*rule);
  program.push_back(give(decision.action));
  return program;
}

/// Bisection over ranges [begin, end).
Program emit_ranges(const std::vector<Range>& ranges, std::size_t begin, std::size_t end) {
  if (end - begin == 1) return emit_decision(ranges[begin].decision);
  std::size_t middle = begin + (end - begin) / 2;
  Program left = emit_ranges(ranges, begin, middle);
  Program right = emit_ranges(ranges, middle, end);
  Program program;
  std::uint32_t pivot = ranges[middle].first;
  if (left.size() <= 255) {
    program.push_back(jump(BPF_JMP | BPF_K | BPF_JGE, pivot, static_cast<unsigned>(left.size()), 0));
  } else {
    // A conditional jump reaches 255 instructions; an unconditional one any distance.
    program.push_back(jump(BPF_JMP | BPF_K | BPF_JGE, pivot, 0, 1));
    program.push_back(statement(BPF_JMP | BPF_JA, static_cast<std::uint32_t>(left.size())));
  }
  program.insert(program.end(), left.begin(), left.end());
  program.insert(program.end(), right.begin(), right.end());
  return program;
}

using Decisions = std::map<std::uint32_t, Decision>;

void add_rules(const spec::Seccomp& profile, const SeccompArchitecture& architecture, SyscallResolver resolve,
               std::uint32_t default_action, Decisions& decisions) {
  std::map<std::uint32_t, bool> decided;
  for (const auto& rule : profile.rules) {
    for (const auto& name : rule.names) {
      auto number = resolve(architecture, name);
      if (!number || decided[*number]) continue;
      auto [entry, is_new] = decisions.try_emplace(*number);
      if (is_new) entry->second.action = default_action;
      if (!rule.args.empty()) {
        entry->second.conditional.push_back(&rule);
        continue;
      }
      decided[*number] = true;
      entry->second = {action_value(rule.action, rule.errno_value), {}};
    }
  }
}

std::vector<Range> to_ranges(const Decisions& decisions, std::uint32_t default_action, bool kill_x32) {
  std::vector<Range> ranges;
  auto add = [&](std::uint32_t first, const Decision& decision) {
    if (ranges.empty() || !(ranges.back().decision == decision)) ranges.push_back({first, decision});
  };
  Decision otherwise{default_action, {}};
  std::uint32_t next = 0;
  for (const auto& [number, decision] : decisions) {
    if (number > next) add(next, otherwise);
    add(number, decision);
    next = number + 1;
  }
  add(next, otherwise);
  if (kill_x32) add(kX32Bit, {SECCOMP_RET_KILL_PROCESS, {}});
  return ranges;
}

}  // namespace

Result<SeccompArchitecture> get_seccomp_architecture(const std::string& name) {
  if (name == "SCMP_ARCH_NATIVE") return native_seccomp_architecture();
  const auto* found = std::ranges::find_if(
      kKnownArchitectures, [&](const SeccompArchitecture& known) { return name == known.name; });
  if (found != kKnownArchitectures.end()) return *found;
  if (name.starts_with("SCMP_ARCH_"))
    return unsupported_error("field", "linux.seccomp.architectures",
                             "'" + name + "' is not known to this runtime");
  return invalid_error("field", "linux.seccomp.architectures", "'" + name + "' is no architecture");
}

SeccompArchitecture native_seccomp_architecture() {
#if defined(__x86_64__)
  return kKnownArchitectures[0];
#elif defined(__aarch64__)
  return kKnownArchitectures[3];
#elif defined(__riscv)
  return kKnownArchitectures[5];
#elif defined(__powerpc64__)
  return kKnownArchitectures[6];
#elif defined(__s390x__)
  return kKnownArchitectures[7];
#else
#error "name this architecture's AUDIT_ARCH in kKnownArchitectures"
#endif
}

Result<unsigned> seccomp_filter_flags(const spec::Seccomp& profile) {
  unsigned flags = 0;
  for (const auto& name : profile.flags) {
    if (name == "SECCOMP_FILTER_FLAG_TSYNC")
      flags |= SECCOMP_FILTER_FLAG_TSYNC;
    else if (name == "SECCOMP_FILTER_FLAG_LOG")
      flags |= SECCOMP_FILTER_FLAG_LOG;
    else if (name == "SECCOMP_FILTER_FLAG_SPEC_ALLOW")
      flags |= SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    else if (name == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" && profile.notifies())
      flags |= SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    else if (name == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")
      return invalid_error("field", "linux.seccomp.flags", "'" + name + "' needs SCMP_ACT_NOTIFY");
    else
      return invalid_error("field", "linux.seccomp.flags", "'" + name + "' is no flag of this runtime");
  }
  if (!profile.notifies()) return flags;
  flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
  // Both give their answer as the result; with the flag a thread that could not be synchronised is ESRCH
  // (seccomp(2)).
  if ((flags & SECCOMP_FILTER_FLAG_TSYNC) != 0) flags |= SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
  return flags;
}

Result<std::vector<sock_filter>> compile_seccomp(const spec::Seccomp& profile, SyscallResolver resolve) {
  std::vector<SeccompArchitecture> architectures{native_seccomp_architecture()};
  for (const auto& name : profile.architectures) {
    LAYERFS_ASSIGN(SeccompArchitecture one, get_seccomp_architecture(name));
    auto same = [&](const SeccompArchitecture& have) { return std::string_view(have.name) == one.name; };
    if (std::ranges::none_of(architectures, same)) architectures.push_back(one);
  }
  std::uint32_t default_action = action_value(profile.default_action, profile.default_errno);
  std::map<std::uint32_t, Decisions> by_token;
  bool has_x32 = false;
  for (const auto& architecture : architectures) {
    has_x32 = has_x32 || architecture.x32;
    add_rules(profile, architecture, resolve, default_action, by_token[architecture.audit_arch]);
  }
  Program program{load(offsetof(seccomp_data, arch))};
  for (const auto& [token, decisions] : by_token) {
    auto ranges = to_ranges(decisions, default_action, token == AUDIT_ARCH_X86_64 && !has_x32);
    Program section = emit_ranges(ranges, 0, ranges.size());
    // Another architecture: over the jump's own distance, the load and the section.
    program.push_back(jump(BPF_JMP | BPF_K | BPF_JEQ, token, 1, 0));
    program.push_back(statement(BPF_JMP | BPF_JA, static_cast<std::uint32_t>(section.size() + 1)));
    program.push_back(load(offsetof(seccomp_data, nr)));
    program.insert(program.end(), section.begin(), section.end());
  }
  program.push_back(give(SECCOMP_RET_KILL_PROCESS));
  if (program.size() > BPF_MAXINSNS)
    return invalid_error("field", "linux.seccomp", "makes a program longer than the kernel takes");
  return program;
}

}  // namespace layerfs::plan
