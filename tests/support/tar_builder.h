// SPDX-License-Identifier: Apache-2.0
// TarBuilder: tars of every dialect and of every fault, byte by byte, for tests.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fs/image/tar_format.h"

namespace layerfs::image {

struct BuiltEntry {
  std::string name;
  char type = '0';
  std::string content = {};
  std::string link = {};
  std::int64_t mode = 0644;
  std::int64_t uid = 0;
  std::int64_t gid = 0;
  std::int64_t mtime = 0;
  std::int64_t device_major = 0;
  std::int64_t device_minor = 0;
  TarDialect dialect = TarDialect::kUstar;
  std::string prefix = {};
  /// Changes the header before its checksum is taken.
  std::function<void(TarHeader&)> edit = {};
};

class TarBuilder {
 public:
  TarBuilder& add(const BuiltEntry& entry) {
    TarHeader header{};
    put(header.name, entry.name);
    put(header.link, entry.link);
    put_tar_number(header.mode, entry.mode);
    put_tar_number(header.uid, entry.uid);
    put_tar_number(header.gid, entry.gid);
    put_tar_number(header.size, static_cast<std::int64_t>(entry.content.size()));
    put_tar_number(header.mtime, entry.mtime);
    header.type = entry.type;
    if (entry.dialect == TarDialect::kGnu) {
      std::memcpy(header.magic.data(), "ustar ", 6);
      std::memcpy(header.version.data(), " \0", 2);
    } else if (entry.dialect != TarDialect::kV7) {
      std::memcpy(header.magic.data(), "ustar\0", 6);
      std::memcpy(header.version.data(), "00", 2);
      put(header.prefix, entry.prefix);
    }
    if (entry.dialect == TarDialect::kStar)
      std::memcpy(reinterpret_cast<char*>(&header) + kStarMagicAt, "tar\0", 4);
    if (entry.type == '3' || entry.type == '4') {
      put_tar_number(header.device_major, entry.device_major);
      put_tar_number(header.device_minor, entry.device_minor);
    }
    if (entry.edit) entry.edit(header);
    put_tar_checksum(header);
    raw({reinterpret_cast<const char*>(&header), sizeof header});
    return raw(entry.content).pad();
  }

  TarBuilder& dir(const std::string& name) { return add({.name = name, .type = '5', .mode = 0755}); }
  TarBuilder& file(const std::string& name, std::string content) {
    return add({.name = name, .content = std::move(content)});
  }
  TarBuilder& pax(const std::vector<std::pair<std::string, std::string>>& records, char type = 'x') {
    std::string body;
    for (const auto& [key, value] : records) body += pax_record(key, value);
    return add({.name = "PaxHeaders/x", .type = type, .content = body});
  }
  /// GNU's `L` (name) and `K` (link) entries.
  TarBuilder& gnu_long(char type, const std::string& text) {
    return add({.name = "././@LongLink",
                .type = type,
                .content = text + std::string(1, '\0'),
                .dialect = TarDialect::kGnu});
  }
  TarBuilder& raw(std::string_view bytes) {
    bytes_ += bytes;
    return *this;
  }
  TarBuilder& pad() { return raw(std::string(tar_padding(bytes_.size()), '\0')); }
  TarBuilder& end() { return raw(std::string(2 * kTarBlock, '\0')); }

  const std::string& bytes() const { return bytes_; }
  /// The archive with its end marker.
  std::string finish() { return end().bytes(); }

 private:
  template <std::size_t N>
  static void put(std::array<char, N>& field, std::string_view text) {
    std::memcpy(field.data(), text.data(), std::min(N, text.size()));
  }
  std::string bytes_;
};

/// Writes a text into part of a header.
inline void put_header(TarHeader& header, std::size_t at, std::string_view text) {
  std::memcpy(reinterpret_cast<char*>(&header) + at, text.data(), text.size());
}
/// A 12-byte number field.
inline std::string number_field(std::int64_t value) {
  std::string field(12, '\0');
  put_tar_number(field, value);
  return field;
}

}  // namespace layerfs::image
