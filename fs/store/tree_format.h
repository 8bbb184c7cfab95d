// SPDX-License-Identifier: Apache-2.0
// Keys, head and trailer of a tree file (FORMAT.md, "Tree file"), shared by its writer and its reader.
#pragma once

#include <array>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "fs/base/bytes.h"
#include "fs/base/digest.h"
#include "fs/tree/node.h"

namespace layerfs::store::tree_format {

inline constexpr std::string_view kMagic = "LFSTREE1";
inline constexpr std::uint32_t kVersion = 1;
inline constexpr std::size_t kTrailerSize = 72;

// First byte of every key. Their order is the order in which the writer appends.
inline constexpr char kEntry = 'd';
inline constexpr char kHead = 'h';
inline constexpr char kInline = 'i';
inline constexpr char kNode = 'n';
inline constexpr char kXattr = 'x';

inline constexpr std::size_t kInoKey = 6;        // kind, inode number
inline constexpr std::size_t kEntryPrefix = 14;  // kind, inode number, cookie
inline constexpr std::uint64_t kInoLimit = std::uint64_t{1} << 40;

/// A key built on the stack: the hot path allocates nothing.
class Key {
 public:
  Key(char kind, tree::Ino ino) {
    std::uint64_t number = to_number(ino);
    bytes_[0] = kind;
    for (unsigned i = 0; i < 5; ++i) bytes_[1 + i] = static_cast<char>(number >> (32 - 8 * i));
    size_ = kInoKey;
  }
  Key(tree::Ino dir, tree::DirCookie cookie) : Key(kEntry, dir) {
    std::uint64_t number = to_number(cookie);
    for (unsigned i = 0; i < 8; ++i) bytes_[size_ + i] = static_cast<char>(number >> (56 - 8 * i));
    size_ += 8;
  }
  /// Requires: `name` is at most kMaxName bytes.
  Key& add(std::string_view name) {
    std::memcpy(bytes_.data() + size_, name.data(), name.size());
    size_ += name.size();
    return *this;
  }
  std::string_view view() const { return {bytes_.data(), size_}; }

 private:
  std::array<char, kEntryPrefix + tree::kMaxName> bytes_;
  std::size_t size_ = 0;
};

inline tree::Ino ino_of_key(std::string_view key) {
  std::uint64_t number = 0;
  for (unsigned i = 0; i < 5; ++i) number = number << 8 | static_cast<unsigned char>(key[1 + i]);
  return tree::Ino{number};
}

/// What find and list need to know at once.
struct Head {
  tree::Ino max_ino{0};
  std::uint64_t nodes = 0;
  std::uint64_t entries = 0;
  std::uint64_t xattrs = 0;
};
std::string encode_head(const Head& head);
std::optional<Head> decode_head(std::string_view bytes);

/// After LMDB's last page.
struct Trailer {
  std::uint64_t lmdb_size = 0;
  std::uint64_t checksum = 0;  // XXH64 of the first lmdb_size bytes
  Digest chain;
};
std::string encode_trailer(const Trailer& trailer);
/// nullopt: damaged. `version` is set where the magic is right.
std::optional<Trailer> decode_trailer(std::string_view bytes, std::uint32_t& version);

}  // namespace layerfs::store::tree_format
