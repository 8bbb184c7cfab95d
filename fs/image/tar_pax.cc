// SPDX-License-Identifier: Apache-2.0
#include "fs/image/tar_pax.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "fs/base/refuse.h"
#include "fs/image/whiteout_name.h"

namespace layerfs::image {

namespace {

constexpr std::string_view kXattr = "SCHILY.xattr.";
constexpr std::string_view kLibarchiveXattr = "LIBARCHIVE.xattr.";
constexpr std::size_t kMaxXattrName = 255;         // XATTR_NAME_MAX
constexpr std::size_t kMaxXattrValue = 64 * 1024;  // XATTR_SIZE_MAX

int hex_value(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
  return -1;
}

/// libarchive writes names that hold '%', '=' or bytes beyond ASCII with %XX.
std::optional<std::string> decode_url(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    int high = hex_value(text[i + 1]);
    int low = hex_value(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    decoded += static_cast<char>(high << 4 | low);
    i += 2;
  }
  return decoded;
}

/// GNU tar writes '=' of a SCHILY name as %3D and '%' as %25; other tools write both as they are.
std::string decode_schily(std::string_view text) {
  std::string decoded;
  while (!text.empty()) {
    bool equals = text.starts_with("%3D");
    bool percent = text.starts_with("%25");
    decoded += equals ? '=' : percent ? '%' : text[0];
    text.remove_prefix(equals || percent ? 3 : 1);
  }
  return decoded;
}

std::optional<std::string> decode_base64(std::string_view text) {
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string decoded;
  std::uint32_t bits = 0;
  int count = 0;
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (char digit : text) {
    std::size_t value = kDigits.find(digit);
    if (value == std::string_view::npos) return std::nullopt;
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    count += 6;
    if (count >= 8) {
      count -= 8;
      decoded += static_cast<char>(bits >> count & 0xff);
    }
  }
  return decoded;
}

Result<void> check_xattr(std::string_view name, std::size_t value_size) {
  if (name.empty()) return refuse("an extended attribute without a name");
  if (name.size() > kMaxXattrName) return refuse("an extended attribute name longer than 255 bytes");
  if (name.find('\0') != std::string_view::npos) return refuse("a NUL in an extended attribute's name");
  if (value_size > kMaxXattrValue)
    return refuse(fmt::format("extended attribute '{}' longer than 64 KiB", shown_name(name)));
  return {};
}

}  // namespace

Result<void> for_each_pax_record(
    std::string_view body, FunctionRef<Result<void>(std::string_view key, std::string_view value)> visit) {
  while (!body.empty()) {
    std::size_t blank = body.find(' ');
    // Ten digits are more than kMaxTarExtension needs.
    if (blank == std::string_view::npos || blank == 0 || blank > 10)
      return refuse("invalid pax record length");
    auto length = parse_decimal(body.substr(0, blank));
    if (!length || static_cast<std::uint64_t>(*length) > body.size() ||
        static_cast<std::uint64_t>(*length) < blank + 3)
      return refuse("invalid pax record length");
    std::string_view record = body.substr(blank + 1, static_cast<std::size_t>(*length) - blank - 1);
    body.remove_prefix(static_cast<std::size_t>(*length));
    if (record.back() != '\n') return refuse("a pax record without newline");
    record.remove_suffix(1);
    std::size_t equals = record.find('=');
    if (equals == std::string_view::npos || equals == 0) return refuse("a pax record without key");
    LAYERFS_TRY(visit(record.substr(0, equals), record.substr(equals + 1)));
  }
  return {};
}

std::optional<std::int64_t> parse_decimal(std::string_view text) {
  std::int64_t value = 0;
  if (text.empty() || text[0] < '0' || text[0] > '9') return std::nullopt;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Result<tree::Time> parse_pax_time(std::string_view text) {
  bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  std::size_t point = std::min(text.find('.'), text.size());
  auto seconds = parse_decimal(text.substr(0, point));
  if (!seconds) return refuse("invalid pax time");
  std::string_view fraction = point < text.size() ? text.substr(point + 1) : std::string_view();
  std::uint32_t nanoseconds = 0;
  bool more = false;  // digits below the nanosecond
  for (std::size_t i = 0; i < std::max<std::size_t>(fraction.size(), 9); ++i) {
    char digit = i < fraction.size() ? fraction[i] : '0';
    if (digit < '0' || digit > '9') return refuse("invalid pax time");
    if (i < 9) {
      nanoseconds = nanoseconds * 10 + static_cast<std::uint32_t>(digit - '0');
    } else {
      more = more || digit != '0';
    }
  }
  if (!negative) return tree::Time{*seconds, nanoseconds};
  // Nanoseconds count upwards from the second below; what is finer is cut towards the past, too.
  if (more) ++nanoseconds;
  if (nanoseconds == 0) return tree::Time{-*seconds, 0};
  return tree::Time{-*seconds - 1, 1'000'000'000 - nanoseconds};
}

Result<void> PaxState::add_global(std::string_view body) {
  return for_each_pax_record(body, [&](std::string_view key, std::string_view value) -> Result<void> {
    auto [record, added] = global_.try_emplace(std::string(key));
    global_bytes_ += (added ? key.size() : 0) + value.size() - record->second.size();
    if (global_bytes_ > kMaxTarExtension) return refuse("more than 1 MiB of global pax records");
    record->second = value;
    return {};
  });
}

Result<void> PaxState::add_local(std::string_view body) {
  local_bytes_ += body.size();
  if (local_bytes_ > kMaxTarExtension) return refuse("more than 1 MiB of pax records for one entry");
  return for_each_pax_record(body, [&](std::string_view key, std::string_view value) -> Result<void> {
    if (key == "GNU.sparse.offset" || key == "GNU.sparse.numbytes") {
      bool want_offset = sparse_pairs_.size() % 2 == 0;
      if (want_offset != (key == "GNU.sparse.offset")) return refuse("invalid sparse map");
      sparse_pairs_.emplace_back(value);
      return {};
    }
    local_.insert_or_assign(std::string(key), std::string(value));
    return {};
  });
}

void PaxState::end_entry() {
  local_.clear();
  local_bytes_ = 0;
  sparse_pairs_.clear();
}

const std::string* PaxState::find(std::string_view key) const {
  auto found = local_.find(key);
  if (found == local_.end()) {
    found = global_.find(key);
    if (found == global_.end()) return nullptr;
  }
  return found->second.empty() ? nullptr : &found->second;
}

Result<tree::XattrList> PaxState::xattrs() const {
  // An empty xattr value is a value, so that find()'s rule of empty records does not apply here.
  Records all;
  for (const Records* records : {&local_, &global_}) {
    for (auto it = records->lower_bound(kXattr); it != records->end() && it->first.starts_with(kXattr); ++it)
      all.emplace(decode_schily(std::string_view(it->first).substr(kXattr.size())), it->second);
  }
  for (const Records* records : {&local_, &global_}) {
    for (auto it = records->lower_bound(kLibarchiveXattr);
         it != records->end() && it->first.starts_with(kLibarchiveXattr); ++it) {
      auto name = decode_url(std::string_view(it->first).substr(kLibarchiveXattr.size()));
      auto value = decode_base64(it->second);
      if (!name || !value) return refuse("invalid LIBARCHIVE.xattr record");
      all.emplace(std::move(*name), std::move(*value));
    }
  }
  tree::XattrList list;
  list.reserve(all.size());
  for (auto& [name, value] : all) {
    LAYERFS_TRY(check_xattr(name, value.size()));
    list.emplace_back(name, std::move(value));
  }
  return list;
}

}  // namespace layerfs::image
