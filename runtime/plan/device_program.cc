// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/device_program.h"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <ranges>

namespace layerfs::plan {

namespace {

// What the registers hold. The kernel calls with the context in r1 and wants 1 (allowed) or 0 in r0.
constexpr std::uint8_t kResult = BPF_REG_0;
constexpr std::uint8_t kContext = BPF_REG_1;
constexpr std::uint8_t kScratch = BPF_REG_1;  // once the context is read
constexpr std::uint8_t kType = BPF_REG_2;
constexpr std::uint8_t kAsked = BPF_REG_3;  // the ways that are not decided yet
constexpr std::uint8_t kMajor = BPF_REG_4;
constexpr std::uint8_t kMinor = BPF_REG_5;

constexpr std::int32_t kEveryWay = BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE;

bpf_insn instruction(int code, std::uint8_t to, std::uint8_t from, std::int16_t offset, std::int32_t value) {
  bpf_insn made{};
  made.code = static_cast<std::uint8_t>(code);
  made.dst_reg = to & 0xf;
  made.src_reg = from & 0xf;
  made.off = offset;
  made.imm = value;
  return made;
}

bpf_insn load_word(std::uint8_t to, std::size_t offset) {
  return instruction(BPF_LDX | BPF_MEM | BPF_W, to, kContext, static_cast<std::int16_t>(offset), 0);
}
bpf_insn copy(std::uint8_t to, std::uint8_t from) {
  return instruction(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0);
}
bpf_insn set(std::uint8_t to, std::int32_t value) {
  return instruction(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value);
}
bpf_insn calculate(int operation, std::uint8_t to, std::int32_t value) {
  return instruction(BPF_ALU64 | operation | BPF_K, to, 0, 0, value);
}
/// Leaves the rule; where to is filled in when its end is known.
bpf_insn leave_if(int operation, std::uint8_t left, std::int32_t right) {
  return instruction(BPF_JMP | operation | BPF_K, left, 0, 0, right);
}
bpf_insn leave_program() { return instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0); }

std::int32_t ways_of(const spec::DeviceRule& rule) {
  if (rule.access.empty()) return kEveryWay;
  std::int32_t ways = 0;
  for (char way : rule.access)
    ways |= way == 'r' ? BPF_DEVCG_ACC_READ : way == 'w' ? BPF_DEVCG_ACC_WRITE : BPF_DEVCG_ACC_MKNOD;
  return ways;
}

bool is_of_everything(const spec::DeviceRule& rule) {
  return rule.type == 'a' && !rule.major && !rule.minor && ways_of(rule) == kEveryWay;
}

Result<void> check_number(const std::optional<std::int64_t>& number) {
  if (!number || (*number >= 0 && *number <= std::numeric_limits<std::int32_t>::max())) return {};
  return invalid_error("field", "linux.resources.devices",
                       std::to_string(*number) + " is no number of a device");
}

/// Appends the instructions of one rule; what it does not decide goes on behind them.
void append_rule(const spec::DeviceRule& rule, std::vector<bpf_insn>& program) {
  std::vector<bpf_insn> block;
  if (rule.type != 'a')
    block.push_back(leave_if(BPF_JNE, kType, rule.type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR));
  if (rule.major) block.push_back(leave_if(BPF_JNE, kMajor, static_cast<std::int32_t>(*rule.major)));
  if (rule.minor) block.push_back(leave_if(BPF_JNE, kMinor, static_cast<std::int32_t>(*rule.minor)));
  std::int32_t ways = ways_of(rule);
  if (ways != kEveryWay && rule.allow) {
    block.push_back(calculate(BPF_AND, kAsked, kEveryWay & ~ways));
    block.push_back(leave_if(BPF_JNE, kAsked, 0));
  } else if (ways != kEveryWay) {
    block.push_back(copy(kScratch, kAsked));
    block.push_back(calculate(BPF_AND, kScratch, ways));
    block.push_back(leave_if(BPF_JEQ, kScratch, 0));
  }
  block.push_back(set(kResult, rule.allow ? 1 : 0));
  block.push_back(leave_program());
  for (std::size_t i = 0; i < block.size(); ++i)
    if (BPF_CLASS(block[i].code) == BPF_JMP && BPF_OP(block[i].code) != BPF_EXIT)
      block[i].off = static_cast<std::int16_t>(block.size() - i - 1);
  program.insert(program.end(), block.begin(), block.end());
}

}  // namespace

Result<std::vector<bpf_insn>> make_device_program(const std::vector<spec::DeviceRule>& rules) {
  std::vector<bpf_insn> program{
      load_word(kType, offsetof(bpf_cgroup_dev_ctx, access_type)),
      copy(kAsked, kType),
      calculate(BPF_AND, kType, 0xffff),  // (ways << 16) | type
      calculate(BPF_RSH, kAsked, 16),
      load_word(kMajor, offsetof(bpf_cgroup_dev_ctx, major)),
      load_word(kMinor, offsetof(bpf_cgroup_dev_ctx, minor)),
  };
  for (const auto& rule : rules) {
    LAYERFS_TRY(check_number(rule.major));
    LAYERFS_TRY(check_number(rule.minor));
  }
  // The last one decides, so it is asked first.
  for (const auto& rule : std::views::reverse(rules)) {
    append_rule(rule, program);
    if (is_of_everything(rule)) return program;
  }
  program.push_back(set(kResult, 0));
  program.push_back(leave_program());
  return program;
}

}  // namespace layerfs::plan
