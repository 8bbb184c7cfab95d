// SPDX-License-Identifier: Apache-2.0
// The bytes of a tar header block, both ways: what tar_reader parses and tar_writer writes. Pure; any thread.
// IMAGE.md, "Tar", lists the dialects (v7, ustar, pax, old GNU, star).
//
// (1) Every parse is total: a field that is no number is nullopt, never a guess.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace layerfs::image {

inline constexpr std::size_t kTarBlock = 512;

/// Bytes from `size` to the next block boundary.
constexpr std::uint64_t tar_padding(std::uint64_t size) { return (kTarBlock - size % kTarBlock) % kTarBlock; }

/// Type flags (POSIX ustar, pax, and GNU's own).
enum class TarType : char {
  kOldRegular = '\0',
  kRegular = '0',
  kHardLink = '1',
  kSymlink = '2',
  kCharDevice = '3',
  kBlockDevice = '4',
  kDirectory = '5',
  kFifo = '6',
  kContiguous = '7',
  kPaxHeader = 'x',
  kPaxHeaderOld = 'X',
  kPaxGlobal = 'g',
  kGnuLongName = 'L',
  kGnuLongLink = 'K',
  kGnuSparse = 'S',
  kGnuVolume = 'V',
};

/// One header block as it lies in the archive.
struct TarHeader {
  std::array<char, 100> name;
  std::array<char, 8> mode;
  std::array<char, 8> uid;
  std::array<char, 8> gid;
  std::array<char, 12> size;
  std::array<char, 12> mtime;
  std::array<char, 8> checksum;
  char type;
  std::array<char, 100> link;
  std::array<char, 6> magic;
  std::array<char, 2> version;
  std::array<char, 32> user;
  std::array<char, 32> group;
  std::array<char, 8> device_major;
  std::array<char, 8> device_minor;
  std::array<char, 155> prefix;  ///< old GNU and star keep other things here, see the offsets below
  std::array<char, 12> unused;
};
static_assert(sizeof(TarHeader) == kTarBlock);

/// Old GNU: offsets in the header block (and in a sparse extension block).
inline constexpr std::size_t kGnuAtimeAt = 345;
inline constexpr std::size_t kGnuCtimeAt = 357;
inline constexpr std::size_t kGnuSparseAt = 386;  ///< 4 pairs of (offset, bytes), 12 digits each
inline constexpr std::size_t kGnuSparsePairs = 4;
inline constexpr std::size_t kGnuMoreAt = 482;  ///< not 0: an extension block follows
inline constexpr std::size_t kGnuRealSizeAt = 483;
inline constexpr std::size_t kGnuExtensionPairs = 21;  ///< in an extension block, from its start
inline constexpr std::size_t kGnuExtensionMoreAt = 504;
/// star (the `tar\0` at 508): a shorter prefix, then times.
inline constexpr std::size_t kStarPrefixSize = 131;
inline constexpr std::size_t kStarAtimeAt = 476;
inline constexpr std::size_t kStarCtimeAt = 488;
inline constexpr std::size_t kStarMagicAt = 508;

enum class TarDialect : std::uint8_t { kV7, kUstar, kGnu, kStar };
TarDialect tar_dialect(const TarHeader& header);

/// A number field: octal digits (blank: 0), or base-256 where the first bit is set (then it may be negative).
std::optional<std::int64_t> parse_tar_number(std::string_view field);
/// Text up to the first NUL.
std::string_view tar_text(std::string_view field);
template <std::size_t N>
std::string_view tar_field(const std::array<char, N>& field) {
  return {field.data(), N};
}

/// Octal with leading zeros and a NUL where `value` fits (and is not negative), else base-256.
void put_tar_number(std::span<char> field, std::int64_t value);
/// True where put_tar_number would use octal, i.e. what a strict ustar reader understands.
bool fits_tar_octal(std::size_t field_size, std::int64_t value);

/// The sum of the header's bytes with the checksum field taken as blanks.
std::uint32_t tar_checksum(const TarHeader& header);
/// The stored sum is the block's (as unsigned bytes, or as signed ones, which some old writers summed).
bool tar_checksum_matches(const TarHeader& header);
/// Fills the checksum field in (six digits, NUL, blank).
void put_tar_checksum(TarHeader& header);

/// `LENGTH KEY=VALUE\n`, LENGTH counting itself.
std::string pax_record(std::string_view key, std::string_view value);

}  // namespace layerfs::image
