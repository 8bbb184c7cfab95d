// SPDX-License-Identifier: Apache-2.0
// The values that a tree is made of: inode numbers, nodes, entries, directory cookies. Plain data, no
// ownership, safe to copy between threads.
//
// (1) A Node holds no bytes of variable length: symlink targets and inline contents are asked for by Ino.
// (2) Inode 1 is the root. Numbers below kFirstUpperIno belong to trees, the rest is born in an upper.
// (3) Directory order is the order of DirCookie (a hash of the name), then of the name; it never changes
//     while entries come and go, so a cookie is a stable seekdir(3) position, also across a restart.
#pragma once

#include <sys/types.h>

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "fs/base/digest.h"

namespace layerfs::tree {

enum class Ino : std::uint64_t {};
inline constexpr Ino kRootIno{1};
/// Inodes born in an upper have a range of their own (invariant 2).
inline constexpr std::uint64_t kFirstUpperIno = std::uint64_t{1} << 40;
constexpr std::uint64_t to_number(Ino ino) { return static_cast<std::uint64_t>(ino); }

enum class Uid : std::uint32_t {};
enum class Gid : std::uint32_t {};
constexpr std::uint32_t to_number(Uid uid) { return static_cast<std::uint32_t>(uid); }
constexpr std::uint32_t to_number(Gid gid) { return static_cast<std::uint32_t>(gid); }

/// Values are on disk (FORMAT.md); never renumber.
enum class NodeKind : std::uint8_t {
  kRegular = 1,
  kDirectory = 2,
  kSymlink = 3,
  kCharDevice = 4,
  kBlockDevice = 5,
  kFifo = 6,
  kSocket = 7,
};

/// S_IFREG ... of a kind, and back. Requires: a valid kind / one of the seven S_IF values.
mode_t to_file_type(NodeKind kind);
NodeKind from_file_type(mode_t mode);

/// Seconds and nanoseconds since 1970, before it too (nanoseconds count upwards, 0 to 999,999,999).
struct Time {
  std::int64_t seconds = 0;
  std::uint32_t nanoseconds = 0;
  auto operator<=>(const Time&) const = default;
};

/// Where a regular file's bytes are. Values are on disk.
enum class ContentKind : std::uint8_t {
  kNone = 0,    ///< no bytes stored: empty, or a hole of `size` bytes; and every kind without content
  kInline = 1,  ///< in the tree or delta itself: symlink targets, small files
  kObject = 2,  ///< `object`, from the BlobSource
  kData = 3,    ///< the upper's data file; where `object` is not zero, only its extents are, the rest is
                ///< `object`'s up to `base_size`, then zeros
  kShared =
      4,  ///< a place of its own in a data file of the upper that neighbours share; never over an object
};
/// Whether the upper has the bytes, which may change then.
constexpr bool has_data_file(ContentKind content) {
  return content == ContentKind::kData || content == ContentKind::kShared;
}
/// A file longer than this, in bytes, has a data file of its own.
inline constexpr std::uint64_t kSharedLimit = std::uint64_t{32} << 10;

struct Node {
  NodeKind kind = NodeKind::kRegular;
  ContentKind content = ContentKind::kNone;
  std::uint16_t mode = 0;  ///< permission bits, 07777
  Uid uid{0};
  Gid gid{0};
  std::uint32_t nlink = 1;  ///< directories: 2 + subdirectories
  std::uint64_t size = 0;   ///< bytes; symlinks: length of the target
  std::uint64_t rdev = 0;   ///< devices: makedev(3)
  Time mtime;
  Time ctime;
  Time atime;
  /// Directories: the directory that holds it (root: itself). Other kinds in a tree: a directory that had a
  /// name of it when it was built (0 where not known), so that commit finds a changed file's path without a
  /// walk; in an upper it means nothing for them.
  Ino parent{0};
  Digest object;  ///< kObject, kData over an object
  /// kData: how much of `object` still shows through. Without an object, kShared too: up to where there may
  /// be holes; 0 where all of it was written.
  std::uint64_t base_size = 0;
  /// kData, kShared: the data file reaches to the file's size, over an object to the end of its last extent,
  /// so that one which is shorter is damaged. False where that is not known: files of older versions.
  bool data_reaches = false;
  bool operator==(const Node&) const = default;
};

struct Entry {
  Ino ino{0};
  Node node;
};

/// A position in a directory's order. "." and ".." have kDotCookie and kDotDotCookie; names have larger ones.
enum class DirCookie : std::uint64_t {};
inline constexpr DirCookie kDirStart{0};
inline constexpr DirCookie kDotCookie{1};
inline constexpr DirCookie kDotDotCookie{2};
constexpr std::uint64_t to_number(DirCookie cookie) { return static_cast<std::uint64_t>(cookie); }

/// The cookie of a name: a hash from 3 to 2^63-1, the same for ever (it is in keys on disk, FORMAT.md).
DirCookie name_cookie(std::string_view name);

inline constexpr std::size_t kMaxName = 255;   ///< NAME_MAX
inline constexpr std::size_t kMaxPath = 4095;  ///< PATH_MAX without its NUL

}  // namespace layerfs::tree

template <>
struct std::hash<layerfs::tree::Ino> {
  std::size_t operator()(layerfs::tree::Ino ino) const noexcept {
    return static_cast<std::size_t>(layerfs::tree::to_number(ino) * 0x9E3779B97F4A7C15ULL);
  }
};
