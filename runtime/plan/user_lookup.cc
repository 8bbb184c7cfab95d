// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/user_lookup.h"

#include <algorithm>
#include <charconv>
#include <optional>

namespace layerfs::plan {

namespace {

std::optional<std::uint32_t> parse_number(std::string_view text) {
  std::uint32_t value = 0;
  auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  // 2^32 - 1 is "no id" to the kernel (setresuid(2)).
  if (text.empty() || code != std::errc{} || end != text.data() + text.size() || value == ~std::uint32_t{0})
    return std::nullopt;
  return value;
}

bool is_all_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

std::vector<std::string_view> split_fields(std::string_view line, char separator) {
  std::vector<std::string_view> fields;
  for (;;) {
    std::size_t at = line.find(separator);
    fields.push_back(line.substr(0, at));
    if (at == std::string_view::npos) return fields;
    line.remove_prefix(at + 1);
  }
}

struct PasswdEntry {
  std::string_view name;
  std::uint32_t uid;
  std::uint32_t gid;
  std::string_view home;
};

std::optional<PasswdEntry> find_passwd(std::string_view text, std::string_view name,
                                       std::optional<std::uint32_t> uid) {
  for (std::string_view line : split_fields(text, '\n')) {
    auto fields = split_fields(line, ':');
    if (fields.size() < 6 || fields[0].empty()) continue;
    auto entry_uid = parse_number(fields[2]);
    auto entry_gid = parse_number(fields[3]);
    if (!entry_uid || !entry_gid) continue;
    if (fields[0] == name || (uid && *entry_uid == *uid))
      return PasswdEntry{fields[0], *entry_uid, *entry_gid, fields[5]};
  }
  return std::nullopt;
}

std::optional<std::uint32_t> find_group(std::string_view text, std::string_view name) {
  for (std::string_view line : split_fields(text, '\n')) {
    auto fields = split_fields(line, ':');
    if (fields.size() >= 3 && fields[0] == name && !name.empty())
      if (auto gid = parse_number(fields[2])) return gid;
  }
  return std::nullopt;
}

std::vector<std::uint32_t> memberships(std::string_view text, std::string_view user) {
  std::vector<std::uint32_t> gids;
  for (std::string_view line : split_fields(text, '\n')) {
    auto fields = split_fields(line, ':');
    if (fields.size() < 4) continue;
    auto gid = parse_number(fields[2]);
    auto members = split_fields(fields[3], ',');
    if (gid && std::ranges::find(members, user) != members.end() &&
        std::ranges::find(gids, *gid) == gids.end())
      gids.push_back(*gid);
  }
  return gids;
}

}  // namespace

Result<FoundUser> find_user(std::string_view user, std::string_view passwd, std::string_view group) {
  std::size_t colon = user.find(':');
  std::string_view name = user.substr(0, colon);
  std::string_view group_name = colon == std::string_view::npos ? std::string_view{} : user.substr(colon + 1);

  FoundUser found;
  std::optional<std::uint32_t> number = name.empty() ? std::optional<std::uint32_t>(0) : parse_number(name);
  auto entry = find_passwd(passwd, name, number);
  if (entry) {
    found.uid = entry->uid;
    found.gid = entry->gid;
    found.home = entry->home.empty() ? "/" : std::string(entry->home);
    found.additional_gids = memberships(group, entry->name);
  } else if (number) {
    found.uid = *number;
    if (*number == 0) found.home = "/root";
  } else if (is_all_digits(name)) {
    return invalid_error("user", name, "is out of range");
  } else {
    return invalid_error("user", name, "is not in the container's /etc/passwd");
  }
  if (!group_name.empty()) {
    auto gid = find_group(group, group_name);
    if (!gid) gid = parse_number(group_name);
    if (!gid) return invalid_error("group", group_name, "is not in the container's /etc/group");
    found.gid = *gid;
    found.additional_gids.clear();
  }
  return found;
}

}  // namespace layerfs::plan
