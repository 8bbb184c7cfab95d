// SPDX-License-Identifier: Apache-2.0
#include "fs/mount/mount_table.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>

#include "fs/base/sys_file.h"

namespace layerfs::mount {
namespace {

/// Cuts the text up to the next `separator` off the front of `rest`.
std::string_view take_field(std::string_view& rest, char separator) {
  std::size_t end = rest.find(separator);
  std::string_view field = rest.substr(0, end);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  return field;
}

/// \040 and the like: blanks, newlines and backslashes are octal in the file.
std::string unescape(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    if (text[i] == '\\' && i + 3 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 4, value, 8).ptr == text.data() + i + 4) {
      plain += static_cast<char>(value);
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

bool parse_number(std::string_view text, unsigned& number) {
  auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  return code == std::errc() && end == text.data() + text.size();
}

struct Line {
  MountEntry entry;
  std::string_view type;
};

/// "36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/root rw,errors=continue"
std::optional<Line> parse_line(std::string_view text) {
  Line line;
  take_field(text, ' ');  // mount id
  take_field(text, ' ');  // parent's id
  std::string_view device = take_field(text, ' ');
  take_field(text, ' ');  // root inside the file system
  line.entry.path = unescape(take_field(text, ' '));
  line.entry.options = take_field(text, ' ');
  while (!text.empty() && take_field(text, ' ') != "-") {  // optional fields
  }
  line.type = take_field(text, ' ');
  line.entry.source = unescape(take_field(text, ' '));
  std::string_view major = take_field(device, ':');
  if (!parse_number(major, line.entry.device_major) || !parse_number(device, line.entry.device_minor))
    return std::nullopt;
  if (line.entry.path.empty() || line.type.empty()) return std::nullopt;
  return line;
}

Result<std::string> read_table() { return read_file("/proc/self/mountinfo"); }

}  // namespace

std::string_view MountEntry::name() const {
  std::string_view text = source;
  if (text.starts_with(kSourcePrefix)) text.remove_prefix(kSourcePrefix.size());
  return text;
}

std::vector<MountEntry> parse_mount_table(std::string_view mountinfo) {
  std::vector<MountEntry> entries;
  while (!mountinfo.empty()) {
    auto line = parse_line(take_field(mountinfo, '\n'));
    if (line && line->type == kMountType) entries.push_back(std::move(line->entry));
  }
  return entries;
}

Result<std::vector<MountEntry>> list_mounts() {
  LAYERFS_ASSIGN(auto table, read_table());
  return parse_mount_table(table);
}

Result<std::optional<MountEntry>> find_mount(std::string_view path) {
  LAYERFS_ASSIGN(std::string table, read_table());
  std::optional<MountEntry> found;
  std::string_view rest = table;
  while (!rest.empty()) {
    auto line = parse_line(take_field(rest, '\n'));
    if (!line || line->entry.path != path) continue;
    found.reset();  // whatever was there is covered
    if (line->type == kMountType) found = std::move(line->entry);
  }
  return found;
}

namespace {

/// The process's user namespace is this process's, or was made by its user (ioctl_ns(2)).
bool is_of_own_user(int pid) {
  auto theirs = open_file("/proc/" + std::to_string(pid) + "/ns/user", O_RDONLY);
  auto own = open_file("/proc/self/ns/user", O_RDONLY);
  if (!theirs || !own) return false;
  auto their_place = stat_fd(theirs->get());
  auto own_place = stat_fd(own->get());
  if (!their_place || !own_place) return false;
  if (their_place->st_ino == own_place->st_ino && their_place->st_dev == own_place->st_dev) return true;
  uid_t owner = 0;
  return ::ioctl(theirs->get(), NS_GET_OWNER_UID, &owner) == 0 && owner == ::geteuid();
}

/// The first that `wanted` wants in the mount namespaces of all processes.
template <class Wanted>
std::optional<HeldMount> find_anywhere(Wanted wanted) {
  auto names = list_dir("/proc");
  if (!names) return std::nullopt;
  for (const std::string& name : *names) {
    int pid = 0;
    auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (error != std::errc() || end != name.data() + name.size()) continue;
    auto table = read_file("/proc/" + name + "/mountinfo");
    if (!table) continue;  // it ended, or is another user's
    for (MountEntry& entry : parse_mount_table(*table))
      if (wanted(entry, pid)) return HeldMount{pid, std::move(entry)};
  }
  return std::nullopt;
}

}  // namespace

std::optional<int> find_holder(const MountEntry& entry) {
  auto held = find_anywhere([&](const MountEntry& other, int) {
    return other.device_major == entry.device_major && other.device_minor == entry.device_minor &&
           other.source == entry.source;
  });
  return held ? std::optional(held->pid) : std::nullopt;
}

std::optional<HeldMount> find_held(std::string_view source) {
  return find_anywhere(
      [&](const MountEntry& entry, int pid) { return entry.source == source && is_of_own_user(pid); });
}

}  // namespace layerfs::mount
