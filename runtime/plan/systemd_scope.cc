// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/systemd_scope.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <limits>
#include <optional>

namespace layerfs::plan {

namespace {

constexpr std::uint64_t kInfinity = std::numeric_limits<std::uint64_t>::max();  // of systemd's numbers
constexpr std::string_view kSlice = ".slice";
constexpr std::string_view kField = "linux.cgroupsPath";

/// systemd.unit(5): what a name is made of, the type's suffix apart.
bool is_unit_name(std::string_view name) {
  constexpr std::string_view kAllowed =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@";
  return !name.empty() && name.size() <= 240 && name.find_first_not_of(kAllowed) == std::string_view::npos;
}

template <class T>
std::optional<T> find_number(std::string_view text) {
  T value{};
  auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// Of a file with one number or "max".
std::optional<std::uint64_t> find_limit(std::string_view text) {
  if (text == "max") return kInfinity;
  return find_number<std::uint64_t>(text);
}

/// systemd keeps a quota as whole percents of a processor: rounded up, so that none is lost.
constexpr std::uint64_t kPercent = 10'000;  // of a second, in microseconds

void add_cpu_max(std::string_view text, std::vector<UnitProperty>& properties) {
  std::size_t blank = text.find(' ');
  auto quota = find_limit(text.substr(0, blank));
  if (!quota) return;
  std::uint64_t period = 100'000;
  if (blank != std::string_view::npos) {
    auto said = find_number<std::uint64_t>(text.substr(blank + 1));
    if (!said || *said == 0) return;
    period = *said;
  }
  std::uint64_t per_second = kInfinity;
  if (*quota != kInfinity) {
    if (*quota > kInfinity / 1'000'000) return;
    per_second = *quota * 1'000'000 / period;
    per_second = (per_second + kPercent - 1) / kPercent * kPercent;
  }
  properties.push_back({"CPUQuotaPerSecUSec", per_second});
  properties.push_back({"CPUQuotaPeriodUSec", period});
}

/// "0-2,8" as a set of bits, the lowest first.
std::optional<std::vector<std::uint8_t>> find_bits(std::string_view text) {
  constexpr unsigned kHighest = 65535;
  std::vector<std::uint8_t> bits;
  while (!text.empty()) {
    std::string_view item = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), item.size() + 1));
    std::size_t dash = item.find('-');
    auto first = find_number<unsigned>(item.substr(0, dash));
    auto last = dash == std::string_view::npos ? first : find_number<unsigned>(item.substr(dash + 1));
    if (!first || !last || *last < *first || *last > kHighest) return std::nullopt;
    if (bits.size() <= *last / 8) bits.resize(*last / 8 + 1);
    for (unsigned bit = *first; bit <= *last; ++bit)
      bits[bit / 8] = static_cast<std::uint8_t>(bits[bit / 8] | 1U << bit % 8);
  }
  return bits;
}

struct NumberProperty {
  std::string_view file;
  const char* name;
};
constexpr NumberProperty kNumbers[] = {
    {"memory.min", "MemoryMin"}, {"memory.low", "MemoryLow"},          {"memory.high", "MemoryHigh"},
    {"memory.max", "MemoryMax"}, {"memory.swap.max", "MemorySwapMax"}, {"cpu.weight", "CPUWeight"},
    {"pids.max", "TasksMax"}};

/// A value in GVariant's text format, as far as properties of scopes need it.
class GvariantReader {
 public:
  explicit GvariantReader(std::string_view text) : rest_(text) {}

  /// nullopt: not of this format.
  std::optional<UnitValue> read() {
    auto value = read_value();
    skip_blanks();
    return rest_.empty() ? value : std::nullopt;
  }

 private:
  void skip_blanks() {
    while (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == '\t')) rest_.remove_prefix(1);
  }
  bool take(char c) {
    skip_blanks();
    if (!rest_.starts_with(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }
  std::string_view take_word() {
    skip_blanks();
    constexpr std::string_view kWord = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-_.";
    std::string_view word = rest_.substr(0, std::min(rest_.find_first_not_of(kWord), rest_.size()));
    rest_.remove_prefix(word.size());
    return word;
  }

  std::optional<std::string> read_string() {
    skip_blanks();
    if (rest_.empty() || (rest_.front() != '\'' && rest_.front() != '"')) return std::nullopt;
    char quote = rest_.front();
    std::string text;
    for (std::size_t i = 1; i < rest_.size(); ++i) {
      if (rest_[i] == quote) {
        rest_.remove_prefix(i + 1);
        return text;
      }
      if (rest_[i] == '\\' && ++i == rest_.size()) return std::nullopt;
      text += rest_[i];
    }
    return std::nullopt;
  }

  template <class T>
  std::optional<UnitValue> read_number(std::string_view word) {
    auto value = find_number<T>(word);
    return value ? std::optional<UnitValue>(*value) : std::nullopt;
  }

  std::optional<UnitValue> read_value() {
    if (take('[')) return read_list();
    if (auto text = read_string()) return UnitValue(std::move(*text));
    std::string_view word = take_word();
    if (word == "true" || word == "false") return UnitValue(word == "true");
    if (word == "int32") return read_number<std::int32_t>(take_word());
    if (word == "uint32") return read_number<std::uint32_t>(take_word());
    if (word == "int64") return read_number<std::int64_t>(take_word());
    if (word == "uint64") return read_number<std::uint64_t>(take_word());
    return read_number<std::int32_t>(word);
  }

  std::optional<UnitValue> read_list() {
    std::vector<std::string> list;
    if (take(']')) return UnitValue(std::move(list));
    do {
      auto item = read_string();
      if (!item) return std::nullopt;
      list.push_back(std::move(*item));
    } while (take(','));
    if (!take(']')) return std::nullopt;
    return UnitValue(std::move(list));
  }

  std::string_view rest_;
};

/// Seconds as microseconds; nullopt where it is no number, or none that fits.
std::optional<UnitValue> to_microseconds(std::string_view text) {
  std::optional<double> seconds = find_number<double>(text);
  if (auto value = seconds ? std::nullopt : GvariantReader(text).read()) {
    if (const auto* number = std::get_if<std::int32_t>(&*value)) seconds = *number;
    if (const auto* number = std::get_if<std::uint32_t>(&*value)) seconds = *number;
    if (const auto* number = std::get_if<std::int64_t>(&*value)) seconds = static_cast<double>(*number);
    if (const auto* number = std::get_if<std::uint64_t>(&*value)) seconds = static_cast<double>(*number);
  }
  constexpr double kMost = 1e12;  // well below what 64 bits hold
  if (!seconds || !(*seconds >= 0) || *seconds > kMost) return std::nullopt;
  return UnitValue(static_cast<std::uint64_t>(std::llround(*seconds * 1e6)));
}

}  // namespace

Result<std::string> expand_slice(std::string_view slice) {
  auto wrong = [&](std::string_view reason) { return invalid_error("slice", slice, reason); };
  if (!slice.ends_with(kSlice)) return wrong("must end in '.slice'");
  if (slice == "-.slice") return std::string();
  std::string_view name = slice.substr(0, slice.size() - kSlice.size());
  if (!is_unit_name(name)) return wrong("is no unit's name");
  if (name.starts_with('-') || name.ends_with('-') || name.find("--") != std::string_view::npos)
    return wrong("has an empty part");
  std::string path;
  for (std::size_t dash = 0; dash != std::string_view::npos;) {
    dash = name.find('-', dash == 0 ? 0 : dash + 1);
    path += '/' + std::string(name.substr(0, dash)) + std::string(kSlice);
  }
  return path;
}

Result<ScopeName> parse_scope_name(std::string_view cgroups_path, std::string_view default_name,
                                   std::string_view default_slice) {
  ScopeName name{std::string(default_slice), std::string(default_name) + ".scope"};
  if (!cgroups_path.empty()) {
    std::size_t first = cgroups_path.find(':');
    std::size_t second = first == std::string_view::npos ? first : cgroups_path.find(':', first + 1);
    if (second == std::string_view::npos || cgroups_path.find(':', second + 1) != std::string_view::npos)
      return invalid_error("field", kField,
                           "must be SLICE:PREFIX:NAME for a group that systemd makes, not '" +
                               std::string(cgroups_path) + "'");
    if (first != 0) name.slice = cgroups_path.substr(0, first);
    std::string_view prefix = cgroups_path.substr(first + 1, second - first - 1);
    std::string_view last = cgroups_path.substr(second + 1);
    if (last.empty()) return invalid_error("field", kField, "has an empty name");
    name.unit = prefix.empty() ? std::string(last) : std::string(prefix) + '-' + std::string(last);
    name.unit += ".scope";
  }
  if (!is_unit_name(name.unit))
    return invalid_error("field", kField, "is no unit's name: '" + name.unit + "'");
  if (auto path = expand_slice(name.slice); !path) return with_context(path.error(), "field", kField);
  return name;
}

std::vector<UnitProperty> unit_properties(const std::vector<CgroupWrite>& writes) {
  std::vector<UnitProperty> properties;
  for (const auto& write : writes) {
    std::string_view value = write.value;
    if (write.file == "cpu.max") add_cpu_max(value, properties);
    if (write.file == "cpuset.cpus" || write.file == "cpuset.mems")
      if (auto bits = find_bits(value))
        properties.push_back(
            {write.file == "cpuset.cpus" ? "AllowedCPUs" : "AllowedMemoryNodes", std::move(*bits)});
    constexpr std::string_view kDefault = "default ";
    if (write.file == "io.weight" && value.starts_with(kDefault))
      if (auto weight = find_number<std::uint64_t>(value.substr(kDefault.size())))
        properties.push_back({"IOWeight", *weight});
    if (const auto* number = std::ranges::find(kNumbers, std::string_view(write.file), &NumberProperty::file);
        number != std::end(kNumbers))
      if (auto limit = find_limit(value)) properties.push_back({number->name, *limit});
  }
  return properties;
}

Result<std::vector<UnitProperty>> annotated_properties(
    const std::map<std::string, std::string>& annotations) {
  constexpr std::string_view kPrefix = "org.systemd.property.";
  std::vector<UnitProperty> properties;
  for (const auto& [key, text] : annotations) {
    if (!key.starts_with(kPrefix)) continue;
    std::string name = key.substr(kPrefix.size());
    auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
    if (name.empty() || !std::ranges::all_of(name, is_letter))
      return invalid_error("annotation", key, "names no property");
    bool in_seconds = name.ends_with("Sec") && !name.ends_with("USec");
    auto value = in_seconds ? to_microseconds(text) : GvariantReader(text).read();
    if (!value)
      return unsupported_error("annotation", key,
                               "has no value of a known type: '" + text +
                                   "' (true, 'text', 5, uint32 5, int64 5, uint64 5 or ['a', 'b'])");
    if (in_seconds) name.replace(name.size() - 3, 3, "USec");
    properties.push_back({std::move(name), std::move(*value)});
  }
  return properties;
}

Result<ScopePlan> plan_scope(const ScopeName& name, const std::vector<CgroupWrite>& limits,
                             const std::map<std::string, std::string>& annotations) {
  ScopePlan plan;
  plan.unit = name.unit;
  // Collected also where it failed: a name is free again. Without the dependencies of ordinary units, which
  // would end it at the very begin of a shutdown, before what uses it.
  plan.properties = {{"Description", "layerfs container " + name.unit.substr(0, name.unit.rfind('.'))},
                     {"Slice", name.slice},
                     {"Delegate", true},
                     {"DefaultDependencies", false},
                     {"CollectMode", std::string("inactive-or-failed")}};
  std::ranges::move(unit_properties(limits), std::back_inserter(plan.properties));
  LAYERFS_ASSIGN(auto annotated, annotated_properties(annotations));
  std::ranges::move(annotated, std::back_inserter(plan.properties));
  return plan;
}

}  // namespace layerfs::plan
