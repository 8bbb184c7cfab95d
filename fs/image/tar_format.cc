// SPDX-License-Identifier: Apache-2.0
#include "fs/image/tar_format.h"

#include <algorithm>
#include <cstring>

namespace layerfs::image {

namespace {

std::optional<std::int64_t> parse_base256(std::string_view field) {
  // Two's complement, big-endian; the top bit of the first byte is the mark, the next one the sign.
  bool negative = (static_cast<unsigned char>(field[0]) & 0x40) != 0;
  std::uint64_t value = negative ? ~std::uint64_t{0} : 0;
  for (std::size_t i = 0; i < field.size(); ++i) {
    auto byte = static_cast<unsigned char>(field[i]);
    if (i == 0) byte = negative ? byte | 0x80 : byte & 0x7f;
    // What is shifted out must be sign only, and the sign must survive.
    std::uint64_t top = value >> 55;
    if (top != (negative ? 0x1ff : 0)) return std::nullopt;
    value = value << 8 | byte;
  }
  return static_cast<std::int64_t>(value);
}

struct Sums {
  std::uint32_t as_unsigned = 0;
  std::int32_t as_signed = 0;
};

Sums sum(const TarHeader& header) {
  Sums sums;
  const auto* bytes = reinterpret_cast<const char*>(&header);
  constexpr std::size_t kFrom = offsetof(TarHeader, checksum);
  constexpr std::size_t kTo = kFrom + sizeof header.checksum;
  for (std::size_t i = 0; i < kTarBlock; ++i) {
    char byte = i >= kFrom && i < kTo ? ' ' : bytes[i];
    sums.as_unsigned += static_cast<unsigned char>(byte);
    sums.as_signed += static_cast<signed char>(byte);
  }
  return sums;
}

}  // namespace

TarDialect tar_dialect(const TarHeader& header) {
  if (tar_field(header.magic) == std::string_view("ustar ", 6)) return TarDialect::kGnu;
  if (tar_field(header.magic) != std::string_view("ustar\0", 6)) return TarDialect::kV7;
  const auto* bytes = reinterpret_cast<const char*>(&header);
  return std::memcmp(bytes + kStarMagicAt, "tar", 4) == 0 ? TarDialect::kStar : TarDialect::kUstar;
}

std::optional<std::int64_t> parse_tar_number(std::string_view field) {
  if (field.empty()) return 0;
  if ((static_cast<unsigned char>(field[0]) & 0x80) != 0) return parse_base256(field);
  std::size_t at = 0;
  while (at < field.size() && (field[at] == ' ' || field[at] == '\0')) ++at;
  std::uint64_t value = 0;
  for (; at < field.size() && field[at] != ' ' && field[at] != '\0'; ++at) {
    if (field[at] < '0' || field[at] > '7') return std::nullopt;
    value = value << 3 | static_cast<std::uint64_t>(field[at] - '0');  // 12 digits: 36 bits at most
  }
  return static_cast<std::int64_t>(value);
}

std::string_view tar_text(std::string_view field) {
  return field.substr(0, std::min(field.find('\0'), field.size()));
}

bool fits_tar_octal(std::size_t field_size, std::int64_t value) {
  return value >= 0 && static_cast<std::uint64_t>(value) >> (3 * (field_size - 1)) == 0;
}

void put_tar_number(std::span<char> field, std::int64_t value) {
  if (fits_tar_octal(field.size(), value)) {
    auto rest = static_cast<std::uint64_t>(value);
    field.back() = '\0';
    for (std::size_t i = field.size() - 1; i-- > 0; rest >>= 3)
      field[i] = static_cast<char>('0' + (rest & 7));
    return;
  }
  std::int64_t rest = value;
  for (std::size_t i = field.size(); i-- > 0; rest >>= 8) field[i] = static_cast<char>(rest & 0xff);
  field[0] = static_cast<char>(field[0] | '\x80');
}

std::uint32_t tar_checksum(const TarHeader& header) { return sum(header).as_unsigned; }

bool tar_checksum_matches(const TarHeader& header) {
  auto stored = parse_tar_number(tar_field(header.checksum));
  if (!stored) return false;
  Sums sums = sum(header);
  return *stored == sums.as_unsigned || *stored == sums.as_signed;
}

void put_tar_checksum(TarHeader& header) {
  put_tar_number(std::span(header.checksum).first(7), tar_checksum(header));
  header.checksum[7] = ' ';
}

std::string pax_record(std::string_view key, std::string_view value) {
  std::size_t rest = key.size() + value.size() + 3;  // blank, '=', newline
  std::size_t length = rest + std::to_string(rest).size();
  length = rest + std::to_string(length).size();
  std::string record = std::to_string(length);
  record += ' ';
  record += key;
  record += '=';
  record += value;
  record += '\n';
  return record;
}

}  // namespace layerfs::image
