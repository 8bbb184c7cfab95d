// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/capability_set.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace layerfs::plan {

namespace {

// In the order of linux/capability.h: the index is the number.
constexpr std::array<std::string_view, 41> kNames{"CHOWN",
                                                  "DAC_OVERRIDE",
                                                  "DAC_READ_SEARCH",
                                                  "FOWNER",
                                                  "FSETID",
                                                  "KILL",
                                                  "SETGID",
                                                  "SETUID",
                                                  "SETPCAP",
                                                  "LINUX_IMMUTABLE",
                                                  "NET_BIND_SERVICE",
                                                  "NET_BROADCAST",
                                                  "NET_ADMIN",
                                                  "NET_RAW",
                                                  "IPC_LOCK",
                                                  "IPC_OWNER",
                                                  "SYS_MODULE",
                                                  "SYS_RAWIO",
                                                  "SYS_CHROOT",
                                                  "SYS_PTRACE",
                                                  "SYS_PACCT",
                                                  "SYS_ADMIN",
                                                  "SYS_BOOT",
                                                  "SYS_NICE",
                                                  "SYS_RESOURCE",
                                                  "SYS_TIME",
                                                  "SYS_TTY_CONFIG",
                                                  "MKNOD",
                                                  "LEASE",
                                                  "AUDIT_WRITE",
                                                  "AUDIT_CONTROL",
                                                  "SETFCAP",
                                                  "MAC_OVERRIDE",
                                                  "MAC_ADMIN",
                                                  "SYSLOG",
                                                  "WAKE_ALARM",
                                                  "BLOCK_SUSPEND",
                                                  "AUDIT_READ",
                                                  "PERFMON",
                                                  "BPF",
                                                  "CHECKPOINT_RESTORE"};

std::string upper_without_prefix(std::string_view name) {
  std::string text(name);
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  if (text.starts_with("CAP_")) text.erase(0, 4);
  return text;
}

CapabilityMask known_mask(unsigned last_known) {
  return last_known >= 63 ? ~CapabilityMask{0} : (CapabilityMask{1} << (last_known + 1)) - 1;
}

}  // namespace

std::optional<unsigned> find_capability(std::string_view name) {
  const auto* found = std::ranges::find(kNames, upper_without_prefix(name));
  if (found == kNames.end()) return std::nullopt;
  return static_cast<unsigned>(found - kNames.begin());
}

std::string capability_name(unsigned number) {
  if (number < kNames.size()) return "CAP_" + std::string(kNames[number]);
  return "CAP_" + std::to_string(number);
}

Result<CapabilityMask> parse_capabilities(const std::vector<std::string>& names, std::string_view field) {
  CapabilityMask mask = 0;
  for (const auto& name : names) {
    auto number = find_capability(name);
    if (!number) return invalid_error(field, name, "no such capability");
    mask |= CapabilityMask{1} << *number;
  }
  return mask;
}

CapabilitySets plan_capabilities(const spec::Capabilities& capabilities, unsigned last_known) {
  CapabilityMask known = known_mask(last_known);
  auto to_mask = [&](const std::vector<std::string>& names) {
    CapabilityMask mask = 0;
    for (const auto& name : names)
      if (auto number = find_capability(name)) mask |= CapabilityMask{1} << *number;
    return mask & known;
  };
  CapabilitySets sets{to_mask(capabilities.bounding), to_mask(capabilities.effective),
                      to_mask(capabilities.permitted), to_mask(capabilities.inheritable),
                      to_mask(capabilities.ambient)};
  // The kernel keeps no capability ambient that is not both permitted and inheritable (capabilities(7)), and
  // refuses to raise one. Engines ask for it all the same: Buildah leaves the inheritable set empty.
  sets.ambient &= sets.permitted & sets.inheritable;
  return sets;
}

std::vector<std::string> unknown_capabilities(const spec::Capabilities& capabilities) {
  std::vector<std::string> unknown;
  for (const auto* set : {&capabilities.bounding, &capabilities.effective, &capabilities.permitted,
                          &capabilities.inheritable, &capabilities.ambient})
    for (const auto& name : *set)
      if (!find_capability(name) && std::ranges::find(unknown, name) == unknown.end())
        unknown.push_back(name);
  return unknown;
}

const std::vector<std::string>& default_capabilities() {
  static const std::vector<std::string> names{
      "CAP_CHOWN",   "CAP_DAC_OVERRIDE", "CAP_FSETID",      "CAP_FOWNER",          "CAP_MKNOD",
      "CAP_NET_RAW", "CAP_SETGID",       "CAP_SETUID",      "CAP_SETFCAP",         "CAP_SETPCAP",
      "CAP_KILL",    "CAP_SYS_CHROOT",   "CAP_AUDIT_WRITE", "CAP_NET_BIND_SERVICE"};
  return names;
}

Result<std::vector<std::string>> adjust_capabilities(const std::vector<std::string>& add,
                                                     const std::vector<std::string>& drop) {
  auto is_all = [](const std::string& name) { return upper_without_prefix(name) == "ALL"; };
  LAYERFS_ASSIGN(CapabilityMask mask, parse_capabilities(default_capabilities(), "capability"));
  CapabilityMask every = known_mask(kNames.size() - 1);
  if (std::ranges::any_of(drop, is_all)) mask = 0;
  if (std::ranges::any_of(add, is_all)) mask = every;
  for (const auto& name : add) {
    if (is_all(name)) continue;
    LAYERFS_ASSIGN(CapabilityMask one, parse_capabilities({name}, "--cap-add"));
    mask |= one;
  }
  for (const auto& name : drop) {
    if (is_all(name)) continue;
    LAYERFS_ASSIGN(CapabilityMask one, parse_capabilities({name}, "--cap-drop"));
    mask &= ~one;
  }
  std::vector<std::string> names;
  for (unsigned number = 0; number < kNames.size(); ++number)
    if ((mask >> number & 1) != 0) names.push_back(capability_name(number));
  return names;
}

}  // namespace layerfs::plan
