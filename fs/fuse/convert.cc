// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/convert.h"

#include <linux/fuse.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>

#include <cstring>

#include "fs/base/bytes.h"

namespace layerfs::fuse {
namespace {

constexpr std::uint32_t kBlockSize = 4096;

std::uint32_t shown(const IdView& view, std::uint32_t id, std::uint32_t own) {
  if (view.squash_all || (view.squash_root && id == 0)) return own;
  return id;
}

std::uint32_t stored(const IdView& view, std::uint32_t id, std::uint32_t own) {
  if (view.squash_all || (view.squash_root && id == own)) return 0;
  return id;
}

timespec to_timespec(const unionfs::Time& time) {
  return {.tv_sec = time.seconds, .tv_nsec = static_cast<long>(time.nanoseconds)};
}

unionfs::Time from_timespec(const timespec& time) {
  return {.seconds = time.tv_sec, .nanoseconds = static_cast<std::uint32_t>(time.tv_nsec)};
}

enum class Direction : std::uint8_t { kShow, kStore };

std::string map_acl(const IdView& view, std::string_view acl, Direction direction) {
  std::string mapped(acl);
  if (!view.squash_root && !view.squash_all) return mapped;
  constexpr std::size_t kHeader = sizeof(posix_acl_xattr_header);
  constexpr std::size_t kEntry = sizeof(posix_acl_xattr_entry);
  if (acl.size() < kHeader || (acl.size() - kHeader) % kEntry != 0) return mapped;
  for (std::size_t at = kHeader; at < mapped.size(); at += kEntry) {
    char* entry = mapped.data() + at;
    auto tag = load_le<std::uint16_t>(entry + offsetof(posix_acl_xattr_entry, e_tag));
    if (tag != ACL_USER && tag != ACL_GROUP) continue;
    auto id = load_le<std::uint32_t>(entry + offsetof(posix_acl_xattr_entry, e_id));
    std::uint32_t own = tag == ACL_USER ? view.uid : view.gid;
    id = direction == Direction::kShow ? shown(view, id, own) : stored(view, id, own);
    std::string bytes;
    append_le(bytes, id);
    std::memcpy(entry + offsetof(posix_acl_xattr_entry, e_id), bytes.data(), bytes.size());
  }
  return mapped;
}

}  // namespace

std::uint32_t shown_uid(const IdView& view, unionfs::Uid uid) {
  return shown(view, to_number(uid), view.uid);
}
std::uint32_t shown_gid(const IdView& view, unionfs::Gid gid) {
  return shown(view, to_number(gid), view.gid);
}
unionfs::Uid stored_uid(const IdView& view, std::uint32_t uid) {
  return unionfs::Uid{stored(view, uid, view.uid)};
}
unionfs::Gid stored_gid(const IdView& view, std::uint32_t gid) {
  return unionfs::Gid{stored(view, gid, view.gid)};
}

struct stat to_stat(const IdView& view, unionfs::Ino ino, const unionfs::Node& node, std::uint64_t blocks) {
  struct stat attributes{};
  attributes.st_ino = to_number(ino);
  attributes.st_mode = to_file_type(node.kind) | node.mode;
  attributes.st_nlink = node.nlink;
  attributes.st_uid = shown_uid(view, node.uid);
  attributes.st_gid = shown_gid(view, node.gid);
  attributes.st_rdev = node.rdev;
  attributes.st_size = static_cast<off_t>(node.size);
  attributes.st_blksize = kBlockSize;
  attributes.st_blocks = static_cast<blkcnt_t>(blocks);
  attributes.st_atim = to_timespec(node.atime);
  attributes.st_mtim = to_timespec(node.mtime);
  attributes.st_ctim = to_timespec(node.ctime);
  return attributes;
}

unionfs::SetAttr to_set_attr(const IdView& view, const struct stat& attributes, std::uint32_t valid) {
  unionfs::SetAttr changes;
  if ((valid & FATTR_MODE) != 0) changes.mode = static_cast<std::uint16_t>(attributes.st_mode & 07777);
  if ((valid & FATTR_UID) != 0) changes.uid = stored_uid(view, attributes.st_uid);
  if ((valid & FATTR_GID) != 0) changes.gid = stored_gid(view, attributes.st_gid);
  if ((valid & FATTR_SIZE) != 0) changes.size = static_cast<std::uint64_t>(attributes.st_size);
  // Linux always sends FATTR_ATIME together with FATTR_ATIME_NOW; the flag says which of the two counts.
  if ((valid & FATTR_ATIME_NOW) != 0)
    changes.atime_now = true;
  else if ((valid & FATTR_ATIME) != 0)
    changes.atime = from_timespec(attributes.st_atim);
  if ((valid & FATTR_MTIME_NOW) != 0)
    changes.mtime_now = true;
  else if ((valid & FATTR_MTIME) != 0)
    changes.mtime = from_timespec(attributes.st_mtim);
  if ((valid & FATTR_CTIME) != 0) changes.ctime = from_timespec(attributes.st_ctim);
  changes.kill_suid_sgid = (valid & FATTR_KILL_SUIDGID) != 0;
  return changes;
}

std::string shown_acl(const IdView& view, std::string_view acl) {
  return map_acl(view, acl, Direction::kShow);
}
std::string stored_acl(const IdView& view, std::string_view acl) {
  return map_acl(view, acl, Direction::kStore);
}

}  // namespace layerfs::fuse
