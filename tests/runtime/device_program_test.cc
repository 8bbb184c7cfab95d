// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <array>
#include <optional>

#include "runtime/plan/device_program.h"

namespace layerfs::plan {
namespace {

using spec::DeviceRule;

constexpr std::uint32_t kMake = BPF_DEVCG_ACC_MKNOD;
constexpr std::uint32_t kRead = BPF_DEVCG_ACC_READ;
constexpr std::uint32_t kWrite = BPF_DEVCG_ACC_WRITE;

/// Runs the program as the kernel would, and checks what the verifier demands: what it does not know, and an
/// instruction that nothing has written to, is a failure.
std::optional<bool> run(const std::vector<bpf_insn>& program, char type, std::uint32_t ways,
                        std::uint32_t major, std::uint32_t minor) {
  std::array<std::optional<std::uint64_t>, 11> registers{};
  std::uint32_t kind = type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR;
  const std::array<std::uint32_t, 3> context{(ways << 16) | kind, major, minor};
  bool has_context = true;
  for (std::size_t at = 0; at < program.size(); ++at) {
    const bpf_insn& step = program[at];
    auto& to = registers[step.dst_reg];
    auto& from = registers[step.src_reg];
    auto value = static_cast<std::uint64_t>(static_cast<std::int64_t>(step.imm));
    switch (step.code) {
      case BPF_LDX | BPF_MEM | BPF_W:
        if (step.src_reg != BPF_REG_1 || !has_context || step.off % 4 != 0) return std::nullopt;
        to = context.at(static_cast<std::size_t>(step.off) / 4);
        break;
      case BPF_ALU64 | BPF_MOV | BPF_X:
        if (!from) return std::nullopt;
        to = from;
        break;
      case BPF_ALU64 | BPF_MOV | BPF_K: to = value; break;
      case BPF_ALU64 | BPF_AND | BPF_K:
        if (!to) return std::nullopt;
        *to &= value;
        break;
      case BPF_ALU64 | BPF_RSH | BPF_K:
        if (!to) return std::nullopt;
        *to >>= value;
        break;
      case BPF_JMP | BPF_JNE | BPF_K:
      case BPF_JMP | BPF_JEQ | BPF_K: {
        if (!to || step.off < 0) return std::nullopt;
        bool equal = *to == value;
        if (equal == (BPF_OP(step.code) == BPF_JEQ)) at += static_cast<std::size_t>(step.off);
        break;
      }
      case BPF_JMP | BPF_EXIT:
        if (!registers[0] || *registers[0] > 1) return std::nullopt;
        return *registers[0] == 1;
      default: return std::nullopt;
    }
    if (step.dst_reg == BPF_REG_1 && BPF_CLASS(step.code) == BPF_ALU64) has_context = false;
  }
  return std::nullopt;  // it ran off the end
}

/// Every instruction can be reached.
bool is_connected(const std::vector<bpf_insn>& program) {
  std::vector<bool> reached(program.size() + 1, false);
  reached[0] = true;
  for (std::size_t i = 0; i < program.size(); ++i) {
    if (!reached[i]) return false;
    bool jumps = BPF_CLASS(program[i].code) == BPF_JMP;
    bool ends = jumps && BPF_OP(program[i].code) == BPF_EXIT;
    if (!ends) reached.at(i + 1) = true;
    if (jumps && !ends) reached.at(i + 1 + static_cast<std::size_t>(program[i].off)) = true;
  }
  return !reached.back();
}

class Rules {
 public:
  explicit Rules(const std::vector<DeviceRule>& rules) : program_(*make_device_program(rules)) {
    EXPECT_TRUE(is_connected(program_));
  }
  bool allow(char type, std::uint32_t ways, std::uint32_t major, std::uint32_t minor) const {
    auto result = run(program_, type, ways, major, minor);
    EXPECT_TRUE(result.has_value()) << "the verifier would refuse it";
    return result.value_or(false);
  }

 private:
  std::vector<bpf_insn> program_;
};

const DeviceRule kDenyAll{false, 'a', {}, {}, "rwm"};
const DeviceRule kAllowAll{true, 'a', {}, {}, ""};

TEST(DeviceProgram, ForbidsWhatNoRuleNames) {
  Rules none({});
  EXPECT_FALSE(none.allow('c', kRead, 1, 3));
  Rules one({{true, 'c', 1, 3, "rwm"}});
  EXPECT_TRUE(one.allow('c', kRead | kWrite, 1, 3));
  EXPECT_TRUE(one.allow('c', kMake, 1, 3));
  EXPECT_FALSE(one.allow('b', kRead, 1, 3)) << "of another type";
  EXPECT_FALSE(one.allow('c', kRead, 1, 5)) << "of another minor";
  EXPECT_FALSE(one.allow('c', kRead, 2, 3)) << "of another major";
}

TEST(DeviceProgram, LaterRulesOverrideEarlierOnes) {
  Rules open({kDenyAll, kAllowAll});
  EXPECT_TRUE(open.allow('b', kWrite, 8, 0));
  Rules closed({kAllowAll, kDenyAll});
  EXPECT_FALSE(closed.allow('b', kWrite, 8, 0));
  Rules exception({kAllowAll, {false, 'b', 8, {}, ""}, {true, 'b', 8, 1, "r"}});
  EXPECT_TRUE(exception.allow('c', kRead | kWrite, 5, 1));
  EXPECT_FALSE(exception.allow('b', kRead, 8, 0));
  EXPECT_TRUE(exception.allow('b', kRead, 8, 1));
  EXPECT_FALSE(exception.allow('b', kRead | kWrite, 8, 1));
  EXPECT_FALSE(exception.allow('b', kWrite, 8, 1));
}

TEST(DeviceProgram, WaysAreDecidedEachByItself) {
  Rules joined({kDenyAll, {true, 'c', 10, 229, "r"}, {true, 'c', 10, {}, "w"}});
  EXPECT_TRUE(joined.allow('c', kRead | kWrite, 10, 229)) << "two rules allow it together";
  EXPECT_FALSE(joined.allow('c', kRead | kWrite, 10, 1));
  EXPECT_TRUE(joined.allow('c', kWrite, 10, 1));
  Rules taken({kAllowAll, {false, 'c', 1, 8, "w"}});
  EXPECT_TRUE(taken.allow('c', kRead, 1, 8));
  EXPECT_FALSE(taken.allow('c', kWrite, 1, 8));
  EXPECT_FALSE(taken.allow('c', kRead | kWrite, 1, 8)) << "opening for both is writing, too";
  EXPECT_TRUE(taken.allow('c', kRead | kMake, 1, 8));
  Rules of_any_type({kDenyAll, {true, 'a', {}, {}, "m"}});
  EXPECT_TRUE(of_any_type.allow('b', kMake, 259, 7));
  EXPECT_FALSE(of_any_type.allow('b', kMake | kRead, 259, 7));
}

TEST(DeviceProgram, AgreesWithAPlainReading) {
  // All short lists of some rules, against a reading of (1) and (2) in three lines.
  const std::vector<DeviceRule> rules{kDenyAll,
                                      kAllowAll,
                                      {true, 'c', 1, {}, "rw"},
                                      {false, 'c', 1, 3, "w"},
                                      {true, 'b', {}, 3, "m"},
                                      {false, 'a', 1, {}, "r"},
                                      {true, 'u', 1, 3, ""}};
  auto plainly = [](const std::vector<DeviceRule>& list, char type, std::uint32_t ways, std::int64_t major,
                    std::int64_t minor) {
    for (auto [way, letter] : {std::pair{kRead, 'r'}, std::pair{kWrite, 'w'}, std::pair{kMake, 'm'}}) {
      bool allowed = false;
      for (const auto& rule : list)
        if ((rule.type == 'a' || (rule.type == 'b') == (type == 'b')) &&
            rule.major.value_or(major) == major && rule.minor.value_or(minor) == minor &&
            (rule.access.empty() || rule.access.find(letter) != std::string::npos))
          allowed = rule.allow;
      if ((ways & way) != 0 && !allowed) return false;
    }
    return true;
  };
  for (const auto& first : rules)
    for (const auto& second : rules)
      for (const auto& third : rules) {
        std::vector<DeviceRule> list{first, second, third};
        Rules program(list);
        for (char type : {'b', 'c'})
          for (std::uint32_t ways = 1; ways <= 7; ++ways)
            for (std::uint32_t major : {1U, 2U})
              for (std::uint32_t minor : {3U, 4U})
                ASSERT_EQ(program.allow(type, ways, major, minor), plainly(list, type, ways, major, minor))
                    << &first - rules.data() << ' ' << &second - rules.data() << ' ' << &third - rules.data()
                    << ' ' << type << ' ' << ways << ' ' << major << ':' << minor;
      }
}

TEST(DeviceProgram, IsOfTheseInstructions) {
  auto program = *make_device_program({kAllowAll, {false, 'b', 8, {}, "w"}});
  std::vector<std::array<int, 5>> steps;
  for (const auto& step : program)
    steps.push_back({step.code, step.dst_reg, step.src_reg, step.off, step.imm});
  const std::vector<std::array<int, 5>> expected{
      {BPF_LDX | BPF_MEM | BPF_W, 2, 1, 0, 0},                      // the type and the ways
      {BPF_ALU64 | BPF_MOV | BPF_X, 3, 2, 0, 0},                    //
      {BPF_ALU64 | BPF_AND | BPF_K, 2, 0, 0, 0xffff},               //
      {BPF_ALU64 | BPF_RSH | BPF_K, 3, 0, 0, 16},                   //
      {BPF_LDX | BPF_MEM | BPF_W, 4, 1, 4, 0},                      // major
      {BPF_LDX | BPF_MEM | BPF_W, 5, 1, 8, 0},                      // minor
      {BPF_JMP | BPF_JNE | BPF_K, 2, 0, 6, BPF_DEVCG_DEV_BLOCK},    // the second rule
      {BPF_JMP | BPF_JNE | BPF_K, 4, 0, 5, 8},                      //
      {BPF_ALU64 | BPF_MOV | BPF_X, 1, 3, 0, 0},                    //
      {BPF_ALU64 | BPF_AND | BPF_K, 1, 0, 0, BPF_DEVCG_ACC_WRITE},  //
      {BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 2, 0},                      //
      {BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0},                    //
      {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},                             //
      {BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1},                    // the first rule, and no more
      {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
  };
  EXPECT_EQ(steps, expected);
}

TEST(DeviceProgram, RefusesWhatIsNoNumber) {
  for (std::int64_t number : {std::int64_t{1} << 31, std::int64_t{1} << 40, std::int64_t{-2}}) {
    auto made = make_device_program({{true, 'c', number, {}, ""}});
    ASSERT_FALSE(made) << number;
    EXPECT_NE(made.error().message().find("linux.resources.devices"), std::string::npos);
    EXPECT_FALSE(make_device_program({{true, 'c', {}, number, ""}}));
  }
}

}  // namespace
}  // namespace layerfs::plan
