// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/mount_options.h"

#include <linux/mount.h>
// linux/mount.h and sys/mount.h of glibc 2.36 define the same names: only one can be included.

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

namespace layerfs::plan {

namespace {

struct FlagOption {
  std::string_view name;
  bool clears;
  unsigned long flag;
};

constexpr std::array<FlagOption, 30> kFlags{{
    {"ro", false, MS_RDONLY},
    {"rw", true, MS_RDONLY},
    {"nosuid", false, MS_NOSUID},
    {"suid", true, MS_NOSUID},
    {"nodev", false, MS_NODEV},
    {"dev", true, MS_NODEV},
    {"noexec", false, MS_NOEXEC},
    {"exec", true, MS_NOEXEC},
    {"sync", false, MS_SYNCHRONOUS},
    {"async", true, MS_SYNCHRONOUS},
    {"dirsync", false, MS_DIRSYNC},
    {"remount", false, MS_REMOUNT},
    {"mand", false, MS_MANDLOCK},
    {"nomand", true, MS_MANDLOCK},
    {"noatime", false, MS_NOATIME},
    {"atime", true, MS_NOATIME},
    {"nodiratime", false, MS_NODIRATIME},
    {"diratime", true, MS_NODIRATIME},
    {"relatime", false, MS_RELATIME},
    {"norelatime", true, MS_RELATIME},
    {"strictatime", false, MS_STRICTATIME},
    {"nostrictatime", true, MS_STRICTATIME},
    {"silent", false, MS_SILENT},
    {"loud", true, MS_SILENT},
    {"iversion", false, MS_I_VERSION},
    {"noiversion", true, MS_I_VERSION},
    {"lazytime", false, MS_LAZYTIME},
    {"nolazytime", true, MS_LAZYTIME},
    {"nosymfollow", false, 256},  // MS_NOSYMFOLLOW
    {"symfollow", true, 256},
}};

struct RecursiveOption {
  std::string_view name;
  bool clears;
  std::uint64_t attribute;
};

constexpr std::array<RecursiveOption, 12> kRecursive{{
    {"rro", false, MOUNT_ATTR_RDONLY},
    {"rrw", true, MOUNT_ATTR_RDONLY},
    {"rnosuid", false, MOUNT_ATTR_NOSUID},
    {"rsuid", true, MOUNT_ATTR_NOSUID},
    {"rnodev", false, MOUNT_ATTR_NODEV},
    {"rdev", true, MOUNT_ATTR_NODEV},
    {"rnoexec", false, MOUNT_ATTR_NOEXEC},
    {"rexec", true, MOUNT_ATTR_NOEXEC},
    {"rnodiratime", false, MOUNT_ATTR_NODIRATIME},
    {"rdiratime", true, MOUNT_ATTR_NODIRATIME},
    {"rnosymfollow", false, MOUNT_ATTR_NOSYMFOLLOW},
    {"rsymfollow", true, MOUNT_ATTR_NOSYMFOLLOW},
}};

struct AtimeOption {
  std::string_view name;
  std::uint64_t attribute;
};

/// relatime is the kernel's default, and what is left without the others.
constexpr std::array<AtimeOption, 6> kRecursiveAtime{{
    {"rnoatime", MOUNT_ATTR_NOATIME},
    {"rstrictatime", MOUNT_ATTR_STRICTATIME},
    {"rrelatime", 0},
    {"ratime", 0},
    {"rnorelatime", 0},
    {"rnostrictatime", 0},
}};

/// Access times are one field of three values in mount_setattr(2): all of its bits are cleared first.
bool apply_recursive_atime(std::string_view name, MountOptions& to) {
  const auto* option = std::ranges::find(kRecursiveAtime, name, &AtimeOption::name);
  if (option == kRecursiveAtime.end()) return false;
  std::uint64_t value = option->attribute;
  to.recursive_clear |= MOUNT_ATTR__ATIME;
  to.recursive_set = (to.recursive_set & ~static_cast<std::uint64_t>(MOUNT_ATTR__ATIME)) | value;
  return true;
}

bool apply_flag(std::string_view name, MountOptions& to) {
  const auto* flag = std::ranges::find(kFlags, name, &FlagOption::name);
  if (flag == kFlags.end()) return false;
  unsigned long& on = flag->clears ? to.clear_flags : to.set_flags;
  unsigned long& off = flag->clears ? to.set_flags : to.clear_flags;
  on |= flag->flag;
  off &= ~flag->flag;
  return true;
}

bool apply_recursive(std::string_view name, MountOptions& to) {
  const auto* option = std::ranges::find(kRecursive, name, &RecursiveOption::name);
  if (option == kRecursive.end()) return apply_recursive_atime(name, to);
  (option->clears ? to.recursive_clear : to.recursive_set) |= option->attribute;
  (option->clears ? to.recursive_set : to.recursive_clear) &= ~option->attribute;
  return true;
}

std::optional<OptionIdMapping> parse_id_mapping(std::string_view text) {
  OptionIdMapping result;
  if (text.starts_with('@')) {
    result.relative = true;
    text.remove_prefix(1);
  }
  std::array<std::uint32_t, 3> numbers{};
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), numbers[i]);
    if (code != std::errc{}) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    bool last = i + 1 == numbers.size();
    if (last ? !text.empty() : !text.starts_with('-')) return std::nullopt;
    if (!last) text.remove_prefix(1);
  }
  result.mapping = {numbers[0], numbers[1], numbers[2]};
  return result;
}

/// `option`: "idmap=uids=0-1-10#10-11-10;gids=0-100-10".
Result<void> parse_id_maps(const std::string& option, MountOptions& to) {
  auto wrong = [&] {
    return invalid_error("mount option", option, "must be idmap=uids=ID-ID-SIZE[#...];gids=...");
  };
  std::string_view rest = std::string_view(option).substr(option.find('=') + 1);
  while (!rest.empty()) {
    std::string_view map = rest.substr(0, rest.find(';'));
    rest.remove_prefix(std::min(rest.size(), map.size() + 1));
    bool uids = map.starts_with("uids=");
    if (!uids && !map.starts_with("gids=")) return wrong();
    map.remove_prefix(5);
    while (!map.empty()) {
      std::string_view item = map.substr(0, map.find('#'));
      map.remove_prefix(std::min(map.size(), item.size() + 1));
      auto mapping = parse_id_mapping(item);
      if (!mapping) return wrong();
      (uids ? to.uid_map : to.gid_map).push_back(*mapping);
    }
  }
  if (to.uid_map.empty() || to.gid_map.empty()) return wrong();
  return {};
}

}  // namespace

Result<MountOptions> parse_mount_options(const std::vector<std::string>& options, std::string_view type) {
  MountOptions result;
  result.bind = type == "bind" || type == "rbind";
  result.recursive = type == "rbind";
  for (const auto& name : options) {
    if (name == "bind" || name == "rbind") {
      result.bind = true;
      result.recursive = result.recursive || name == "rbind";
    } else if (name == "defaults" || name.empty()) {
      continue;
    } else if (name == "tmpcopyup") {
      if (type != "tmpfs") return invalid_error("mount option", name, "needs a tmpfs");
      result.copy_up = true;
    } else if (name == "idmap" || name == "ridmap") {
      result.id_map = name == "idmap" ? IdMapOption::kTop : IdMapOption::kTree;
    } else if (name.starts_with("idmap=") || name.starts_with("ridmap=")) {
      result.id_map = name.starts_with("idmap") ? IdMapOption::kTop : IdMapOption::kTree;
      LAYERFS_TRY(parse_id_maps(name, result));
    } else if (auto propagation = spec::find_propagation(name)) {
      result.propagation.push_back(*propagation);
    } else if (!apply_flag(name, result) && !apply_recursive(name, result)) {
      if (!result.data.empty()) result.data += ',';
      result.data += name;
    }
  }
  // Options of a file system mean nothing to a bind mount, and the kernel and other runtimes ignore them.
  if (result.bind) result.data.clear();
  return result;
}

std::vector<std::string> known_mount_options() {
  std::vector<std::string> names{"bind", "rbind", "defaults", "tmpcopyup", "idmap", "ridmap"};
  for (const auto& option : kFlags) names.emplace_back(option.name);
  for (const auto& option : kRecursive) names.emplace_back(option.name);
  for (const auto& option : kRecursiveAtime) names.emplace_back(option.name);
  for (const char* name : {"private", "slave", "shared", "unbindable"}) {
    names.emplace_back(name);
    names.push_back('r' + std::string(name));
  }
  std::ranges::sort(names);
  return names;
}

}  // namespace layerfs::plan
