// SPDX-License-Identifier: Apache-2.0
#include "fs/base/mount_info.h"

#include <charconv>
#include <optional>

namespace layerfs {

namespace {

/// Cuts the text up to the next `separator` off the front of `rest`.
std::string_view take_field(std::string_view& rest, char separator) {
  std::size_t end = rest.find(separator);
  std::string_view field = rest.substr(0, end);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  return field;
}

/// Blanks, tabs, newlines and backslashes are a backslash and three octal digits in the file.
std::string unescape(std::string_view text) {
  std::string plain;
  plain.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    bool octal = text[i] == '\\' && text.size() - i > 3;
    for (std::size_t k = 1; octal && k <= 3; ++k) octal = text[i + k] >= '0' && text[i + k] <= '7';
    if (octal) {
      plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

template <class T>
bool parse_number(std::string_view text, T& number) {
  auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  return code == std::errc() && end == text.data() + text.size();
}

/// "36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/root rw,errors=continue"
std::optional<MountEntry> parse_line(std::string_view rest) {
  MountEntry entry;
  if (!parse_number(take_field(rest, ' '), entry.id)) return std::nullopt;
  if (!parse_number(take_field(rest, ' '), entry.parent)) return std::nullopt;
  std::string_view device = take_field(rest, ' ');
  std::string_view major = take_field(device, ':');
  if (!parse_number(major, entry.device_major) || !parse_number(device, entry.device_minor))
    return std::nullopt;
  entry.root = unescape(take_field(rest, ' '));
  entry.path = unescape(take_field(rest, ' '));
  entry.options = take_field(rest, ' ');
  // Any number of optional fields, none too, and then a hyphen.
  std::string_view field;
  do {
    if (rest.empty()) return std::nullopt;
    field = take_field(rest, ' ');
  } while (field != "-");
  entry.type = unescape(take_field(rest, ' '));
  entry.source = unescape(take_field(rest, ' '));
  entry.super_options = rest;
  if (entry.root.empty() || entry.path.empty() || entry.type.empty()) return std::nullopt;
  return entry;
}

}  // namespace

std::vector<MountEntry> parse_mount_info(std::string_view text) {
  std::vector<MountEntry> entries;
  while (!text.empty())
    if (auto entry = parse_line(take_field(text, '\n'))) entries.push_back(std::move(*entry));
  return entries;
}

}  // namespace layerfs
