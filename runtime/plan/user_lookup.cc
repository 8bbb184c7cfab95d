// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/user_lookup.h"

#include <algorithm>
#include <charconv>

namespace layerfs::plan {

namespace {

std::string_view strip_blanks(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\v\f";
  std::size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    std::size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

/// The fields of each line that says something, in order, until `visit` returns false.
template <class Visit>
void for_each_entry(std::string_view text, Visit visit) {
  while (!text.empty()) {
    std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = strip_blanks(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line.front() == '#') continue;
    auto fields = split(line, ':');
    if (!fields.front().empty() && !visit(fields)) return;
  }
}

using Fields = std::vector<std::string_view>;

std::string_view field(const Fields& fields, std::size_t index) {
  return index < fields.size() ? fields[index] : std::string_view{};
}

struct PasswdEntry {
  std::string_view name;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::string_view home;
};

/// nullopt: what stands where a number must is none. Nobody becomes root by a line that cannot be read.
std::optional<PasswdEntry> find_passwd_entry(const Fields& fields) {
  auto uid = find_id(field(fields, 2));
  auto gid = field(fields, 3).empty() ? std::optional<std::uint32_t>(0) : find_id(field(fields, 3));
  if (!uid || !gid) return std::nullopt;
  return PasswdEntry{fields[0], *uid, *gid, field(fields, 5)};
}

/// By `uid` where there is one, else by `name`: what is a number is never looked for among the names.
std::optional<PasswdEntry> find_passwd(std::string_view text, std::string_view name,
                                       std::optional<std::uint32_t> uid) {
  std::optional<PasswdEntry> found;
  for_each_entry(text, [&](const Fields& fields) {
    auto entry = find_passwd_entry(fields);
    if (entry && (uid ? entry->uid == *uid : entry->name == name)) found = entry;
    return !found;
  });
  return found;
}

std::optional<std::uint32_t> find_group(std::string_view text, std::string_view name) {
  std::optional<std::uint32_t> found;
  for_each_entry(text, [&](const Fields& fields) {
    if (fields[0] == name) found = find_id(field(fields, 2));
    return !found;
  });
  return found;
}

void add_once(std::vector<std::uint32_t>& gids, std::uint32_t gid) {
  if (std::ranges::find(gids, gid) == gids.end()) gids.push_back(gid);
}

void add_memberships(std::string_view text, std::string_view user, std::vector<std::uint32_t>& gids) {
  for_each_entry(text, [&](const Fields& fields) {
    auto gid = find_id(field(fields, 2));
    auto members = split(field(fields, 3), ',');
    if (gid && std::ranges::find(members, user) != members.end()) add_once(gids, *gid);
    return true;
  });
}

bool is_all_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

/// The id that `text` is. nullopt: it is a name. Errors: kInvalid where it is a number that no id can be.
Result<std::optional<std::uint32_t>> parse_id_or_name(const char* what, std::string_view text) {
  if (!is_all_digits(text)) return std::nullopt;
  auto id = find_id(text);
  if (!id) return invalid_error(what, text, "is out of range: an id is at most " + std::to_string(kNoId - 1));
  return id;
}

}  // namespace

std::optional<std::uint32_t> find_id(std::string_view text) {
  std::uint32_t value = 0;
  auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || code != std::errc{} || end != text.data() + text.size() || value == kNoId)
    return std::nullopt;
  return value;
}

Result<FoundUser> find_user(std::string_view user, std::string_view passwd, std::string_view group) {
  std::size_t colon = user.find(':');
  std::string_view name = user.substr(0, colon);
  std::string_view group_name = colon == std::string_view::npos ? std::string_view{} : user.substr(colon + 1);

  FoundUser found;
  LAYERFS_ASSIGN(auto uid, parse_id_or_name("user", name));
  if (name.empty()) uid = 0;
  LAYERFS_ASSIGN(auto gid, parse_id_or_name("group", group_name));
  auto entry = find_passwd(passwd, name, uid);
  if (!entry && !uid) return invalid_error("user", name, "is not in the container's /etc/passwd");
  if (entry) {
    found.uid = entry->uid;
    found.gid = entry->gid;
    found.home = entry->home.empty() ? "/" : std::string(entry->home);
  } else {
    found.uid = *uid;
    if (*uid == 0) found.home = "/root";
  }
  if (!group_name.empty()) {
    if (!gid) gid = find_group(group, group_name);
    if (!gid) return invalid_error("group", group_name, "is not in the container's /etc/group");
    found.gid = *gid;
  }
  // A process without its primary group among these is let in where that group is kept out
  // (GHSA-rc4r-wh2q-q6c4).
  found.groups.push_back(found.gid);
  if (group_name.empty() && entry) add_memberships(group, entry->name, found.groups);
  return found;
}

}  // namespace layerfs::plan
