// SPDX-License-Identifier: Apache-2.0
#include "fs/tree/node.h"

#include <sys/stat.h>

#include "fs/base/bytes.h"
#include "fs/base/check.h"

namespace layerfs::tree {

mode_t to_file_type(NodeKind kind) {
  switch (kind) {
    case NodeKind::kRegular: return S_IFREG;
    case NodeKind::kDirectory: return S_IFDIR;
    case NodeKind::kSymlink: return S_IFLNK;
    case NodeKind::kCharDevice: return S_IFCHR;
    case NodeKind::kBlockDevice: return S_IFBLK;
    case NodeKind::kFifo: return S_IFIFO;
    case NodeKind::kSocket: return S_IFSOCK;
  }
  check_failed(__FILE__, __LINE__, "valid NodeKind");
}

NodeKind from_file_type(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG: return NodeKind::kRegular;
    case S_IFDIR: return NodeKind::kDirectory;
    case S_IFLNK: return NodeKind::kSymlink;
    case S_IFCHR: return NodeKind::kCharDevice;
    case S_IFBLK: return NodeKind::kBlockDevice;
    case S_IFIFO: return NodeKind::kFifo;
    case S_IFSOCK: return NodeKind::kSocket;
    default: check_failed(__FILE__, __LINE__, "one of the seven file types");
  }
}

namespace {
/// MurmurHash3's 64-bit finaliser (Appleby, public domain): every input bit reaches every output bit.
std::uint64_t mix(std::uint64_t value) {
  value ^= value >> 33;
  value *= 0xFF51AFD7ED558CCDULL;
  value ^= value >> 33;
  value *= 0xC4CEB9FE1A85EC53ULL;
  value ^= value >> 33;
  return value;
}
}  // namespace

DirCookie name_cookie(std::string_view name) {
  std::uint64_t hash = 0x6C61796572667331ULL ^ name.size();
  while (name.size() >= 8) {
    hash = mix(hash ^ load_le<std::uint64_t>(name.data())) * 0x9E3779B97F4A7C15ULL;
    name.remove_prefix(8);
  }
  std::uint64_t tail = 0;
  for (std::size_t i = 0; i < name.size(); ++i)
    tail |= std::uint64_t{static_cast<unsigned char>(name[i])} << (8 * i);
  hash = mix(hash ^ tail) >> 1;
  return DirCookie{hash < 3 ? hash + 3 : hash};
}

}  // namespace layerfs::tree
