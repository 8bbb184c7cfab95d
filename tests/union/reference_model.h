// SPDX-License-Identifier: Apache-2.0
// ReferenceModel: a POSIX file system as plainly as it can be written, to compare UnionFs with. It shares
// nothing with the code under test: names in std::map, bytes in a std::string, no upper and no lower.
//
// (1) Every call answers 0 or the errno that ext4 gives, as the kernel sees it with default_permissions.
// (2) Times are windows: a change says "touched between then and now", and the comparison narrows it.
#pragma once

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace layerfs::unionfs::model {

using Moment = std::pair<std::int64_t, std::uint32_t>;

inline Moment clock_now(clockid_t clock) {
  struct timespec time{};
  ::clock_gettime(clock, &time);
  return {time.tv_sec, static_cast<std::uint32_t>(time.tv_nsec)};
}

/// A time that lies somewhere from `earliest` to `latest`.
struct Window {
  Moment earliest{};
  Moment latest{};
  bool contains(Moment moment) const { return earliest <= moment && moment <= latest; }
};

struct ModelNode;
using NodePtr = std::shared_ptr<ModelNode>;

struct ModelNode {
  mode_t type = S_IFREG;
  mode_t mode = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t nlink = 1;
  std::uint64_t rdev = 0;
  std::string bytes;  // contents, or a link's target
  std::map<std::string, std::string> xattrs;
  std::map<std::string, NodePtr> children;
  std::weak_ptr<ModelNode> parent;
  Window mtime, ctime;
  std::uint64_t ino = 0;  // what the code under test calls it; 0: not seen yet
  bool unnamed = false;   // made by O_TMPFILE: may be linked though it has no link
  bool is_dir() const { return type == S_IFDIR; }
  bool is_regular() const { return type == S_IFREG; }
};

/// A directory and a last component.
struct Where {
  NodePtr dir;
  std::string name;
};

struct Who {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  mode_t umask = 0;
};

inline constexpr const char* kAccess = "system.posix_acl_access";
inline constexpr const char* kDefault = "system.posix_acl_default";

/// The ACL xattr as fixed fields: enough for the lists that the tests use (one named user at most).
struct PlainAcl {
  unsigned owner = 0, group = 0, other = 0;
  std::optional<unsigned> named, mask;

  static PlainAcl of(const std::string& bytes) {
    PlainAcl acl;
    for (std::size_t at = 4; at + 8 <= bytes.size(); at += 8) {
      unsigned tag = static_cast<unsigned char>(bytes[at]);
      unsigned bits = static_cast<unsigned char>(bytes[at + 2]);
      if (tag == 1) acl.owner = bits;
      if (tag == 2) acl.named = bits;
      if (tag == 4) acl.group = bits;
      if (tag == 16) acl.mask = bits;
      if (tag == 32) acl.other = bits;
    }
    return acl;
  }
  std::string bytes() const {
    std::string all("\2\0\0\0", 4);
    auto add = [&](unsigned tag, unsigned bits, std::uint32_t id) {
      all.push_back(static_cast<char>(tag));
      all.push_back('\0');
      all.push_back(static_cast<char>(bits));
      all.push_back('\0');
      for (int i = 0; i < 4; ++i) all.push_back(static_cast<char>(id >> (8 * i)));
    };
    add(1, owner, UINT32_MAX);
    if (named) add(2, *named, 1000);
    add(4, group, UINT32_MAX);
    if (mask) add(16, *mask, UINT32_MAX);
    add(32, other, UINT32_MAX);
    return all;
  }
  unsigned group_class() const { return mask ? *mask : group; }
  void set_group_class(unsigned bits) { (mask ? *mask : group) = bits; }
  bool plain() const { return !named && !mask; }
  mode_t mode() const { return owner << 6 | group_class() << 3 | other; }
};

class ReferenceModel {
 public:
  ReferenceModel() {
    root_ = std::make_shared<ModelNode>();
    root_->type = S_IFDIR;
    root_->mode = 0755;
    root_->nlink = 2;
    root_->parent = root_;
  }
  const NodePtr& root() const { return root_; }

  /// Opens the window of the changes of the next call: times are of the clock that ticks, or finer.
  void begin() { start_ = clock_now(CLOCK_REALTIME_COARSE); }
  /// Closes it.
  void end() {
    Moment last = clock_now(CLOCK_REALTIME);
    for (Window* window : open_) window->latest = last;
    open_.clear();
    unlinked_.clear();
  }

  NodePtr find(const Where& where) const {
    auto found = where.dir->children.find(where.name);
    return found == where.dir->children.end() ? nullptr : found->second;
  }

  int create(const Where& where, mode_t type, mode_t mode, std::uint64_t rdev, const std::string& target,
             const Who& who, NodePtr* made = nullptr) {
    if (int error = check_dir(where)) return error;
    if (find(where)) return EEXIST;
    NodePtr node = new_node(where.dir, type, mode, who);
    node->rdev = rdev;
    node->bytes = target;
    if (type == S_IFDIR) {
      node->nlink = 2;
      node->parent = where.dir;
      ++where.dir->nlink;
    }
    where.dir->children[where.name] = node;
    touch(where.dir->mtime, where.dir->ctime);
    if (made) *made = node;
    return 0;
  }

  int tmpfile(const NodePtr& dir, mode_t mode, const Who& who, NodePtr* made) {
    if (!dir->is_dir()) return ENOTDIR;
    if (dir->nlink == 0) return ENOENT;
    *made = new_node(dir, S_IFREG, mode, who);
    (*made)->nlink = 0;
    (*made)->unnamed = true;
    return 0;
  }

  int link(const NodePtr& node, const Where& where) {
    if (int error = check_dir(where)) return error;
    if (find(where)) return EEXIST;
    if (node->is_dir()) return EPERM;
    ++node->nlink;
    where.dir->children[where.name] = node;
    touch(node->ctime);
    touch(where.dir->mtime, where.dir->ctime);
    return 0;
  }

  int unlink(const Where& where) {
    if (int error = check_dir(where)) return error;
    NodePtr node = find(where);
    if (!node) return ENOENT;
    if (node->is_dir()) return EISDIR;
    where.dir->children.erase(where.name);
    touch(where.dir->mtime, where.dir->ctime);
    lose_link(node);
    return 0;
  }

  int rmdir(const Where& where) {
    if (int error = check_dir(where)) return error;
    NodePtr node = find(where);
    if (!node) return ENOENT;
    if (!node->is_dir()) return ENOTDIR;
    if (!node->children.empty()) return ENOTEMPTY;
    where.dir->children.erase(where.name);
    --where.dir->nlink;
    touch(where.dir->mtime, where.dir->ctime);
    lose_link(node);
    return 0;
  }

  int rename(const Where& from, const Where& to, unsigned flags) {
    if ((flags & ~3U) != 0 || flags == 3) return EINVAL;
    if (int error = check_dir(from)) return error;
    if (int error = check_dir(to)) return error;
    NodePtr moved = find(from);
    NodePtr there = find(to);
    if (!moved) return ENOENT;
    if (flags == RENAME_EXCHANGE && !there) return ENOENT;
    if (flags == RENAME_NOREPLACE && there) return EEXIST;
    if (there == moved) return 0;
    if (moved->is_dir() && from.dir != to.dir && is_inside(to.dir, moved)) return EINVAL;
    if (flags == RENAME_EXCHANGE) {
      if (there->is_dir() && from.dir != to.dir && is_inside(from.dir, there)) return EINVAL;
    } else if (there) {
      if (moved->is_dir() && !there->is_dir()) return ENOTDIR;
      if (!moved->is_dir() && there->is_dir()) return EISDIR;
      if (there->is_dir() && !there->children.empty()) return ENOTEMPTY;
    }
    from.dir->children.erase(from.name);
    if (moved->is_dir()) --from.dir->nlink;
    if (there && there->is_dir()) --to.dir->nlink;
    to.dir->children[to.name] = moved;
    if (moved->is_dir()) {
      ++to.dir->nlink;
      moved->parent = to.dir;
    }
    touch(moved->ctime);
    if (flags == RENAME_EXCHANGE) {
      from.dir->children[from.name] = there;
      if (there->is_dir()) {
        ++from.dir->nlink;
        there->parent = from.dir;
      }
      touch(there->ctime);
    } else if (there) {
      lose_link(there);
    }
    touch(from.dir->mtime, from.dir->ctime);
    touch(to.dir->mtime, to.dir->ctime);
    return 0;
  }

  int write(const NodePtr& node, std::uint64_t offset, const std::string& data, bool kill) {
    if (int error = check_regular(node)) return error;
    if (data.empty()) return 0;
    if (node->bytes.size() < offset + data.size()) node->bytes.resize(offset + data.size());
    node->bytes.replace(offset, data.size(), data);
    changed_bytes(node, kill);
    return 0;
  }

  int truncate(const NodePtr& node, std::uint64_t size, bool kill) {
    if (int error = check_regular(node)) return error;
    node->bytes.resize(size);
    changed_bytes(node, kill);
    return 0;
  }

  int fallocate(const NodePtr& node, int mode, std::uint64_t offset, std::uint64_t length) {
    if ((mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0) return EOPNOTSUPP;
    bool punch = (mode & FALLOC_FL_PUNCH_HOLE) != 0;
    bool zero = (mode & FALLOC_FL_ZERO_RANGE) != 0;
    bool keep = (mode & FALLOC_FL_KEEP_SIZE) != 0;
    if (punch && (zero || !keep)) return EOPNOTSUPP;
    if (length == 0) return EINVAL;
    if (int error = check_regular(node)) return error;
    if (punch || zero)
      for (std::uint64_t at = offset; at < std::min<std::uint64_t>(offset + length, node->bytes.size()); ++at)
        node->bytes[at] = '\0';
    if (!keep && node->bytes.size() < offset + length) node->bytes.resize(offset + length);
    changed_bytes(node, false);
    return 0;
  }

  int copy_range(const NodePtr& in, std::uint64_t in_offset, const NodePtr& out, std::uint64_t out_offset,
                 std::uint64_t length, std::uint64_t* copied) {
    *copied = 0;
    if (int error = check_regular(in)) return error;
    if (int error = check_regular(out)) return error;
    if (in_offset >= in->bytes.size() || length == 0) return 0;
    length = std::min<std::uint64_t>(length, in->bytes.size() - in_offset);
    if (in == out && in_offset < out_offset + length && out_offset < in_offset + length) return EINVAL;
    std::string data = in->bytes.substr(in_offset, length);
    *copied = length;
    return write(out, out_offset, data, false);
  }

  void chmod(const NodePtr& node, mode_t mode) {
    node->mode = mode & 07777;
    if (auto found = node->xattrs.find(kAccess); found != node->xattrs.end()) {
      PlainAcl acl = PlainAcl::of(found->second);
      acl.owner = mode >> 6 & 7;
      acl.set_group_class(mode >> 3 & 7);
      acl.other = mode & 7;
      found->second = acl.bytes();
    }
    touch(node->ctime);
  }

  void chown(const NodePtr& node, std::optional<std::uint32_t> uid, std::optional<std::uint32_t> gid) {
    if (uid) node->uid = *uid;
    if (gid) node->gid = *gid;
    if ((uid || gid) && !node->is_dir()) {
      drop_set_id(node, true);
      node->xattrs.erase("security.capability");
    }
    touch(node->ctime);
  }

  void set_mtime(const NodePtr& node, Moment moment) {
    node->mtime = {moment, moment};
    touch(node->ctime);
  }

  /// `flag`: 0, XATTR_CREATE (1) or XATTR_REPLACE (2).
  int set_xattr(const NodePtr& node, const std::string& name, const std::string& value, int flag) {
    bool is_there = node->xattrs.contains(name);
    if (flag == 1 && is_there) return EEXIST;
    if (flag == 2 && !is_there) return ENODATA;
    if (name == kAccess) {
      if (node->type == S_IFLNK) return EOPNOTSUPP;
      PlainAcl acl = PlainAcl::of(value);
      node->mode = (node->mode & ~mode_t{0777}) | acl.mode();
      if (acl.plain())
        node->xattrs.erase(name);
      else
        node->xattrs[name] = value;
    } else {
      if (name == kDefault && !node->is_dir()) return EACCES;
      node->xattrs[name] = value;
    }
    touch(node->ctime);
    return 0;
  }

  int remove_xattr(const NodePtr& node, const std::string& name) {
    if (node->xattrs.erase(name) == 0) return ENODATA;
    touch(node->ctime);
    return 0;
  }

 private:
  static int check_dir(const Where& where) {
    if (!where.dir->is_dir()) return ENOTDIR;
    return where.dir->nlink == 0 ? ENOENT : 0;
  }
  static int check_regular(const NodePtr& node) {
    if (node->is_dir()) return EISDIR;
    return node->is_regular() ? 0 : EINVAL;
  }
  static bool is_inside(NodePtr dir, const NodePtr& above) {
    for (;;) {
      if (dir == above) return true;
      NodePtr up = dir->parent.lock();
      if (!up || up == dir) return false;
      dir = up;
    }
  }
  /// `could_set`: who changes the file might set its set-gid bit.
  static void drop_set_id(const NodePtr& node, bool could_set) {
    node->mode &= ~mode_t{S_ISUID};
    if ((node->mode & S_IXGRP) != 0 || !could_set) node->mode &= ~mode_t{S_ISGID};
  }

  NodePtr new_node(const NodePtr& dir, mode_t type, mode_t mode, const Who& who) {
    auto node = std::make_shared<ModelNode>();
    node->type = type;
    node->mode = mode & 07777;
    node->uid = who.uid;
    node->gid = who.gid;
    if ((dir->mode & S_ISGID) != 0) {
      node->gid = dir->gid;
      if (type == S_IFDIR) node->mode |= S_ISGID;
    }
    if (type == S_IFLNK) {
      node->mode = 0777;
    } else if (auto found = dir->xattrs.find(kDefault); found != dir->xattrs.end()) {
      PlainAcl acl = PlainAcl::of(found->second);
      acl.owner &= mode >> 6 & 7;
      acl.set_group_class(acl.group_class() & (mode >> 3 & 7));
      acl.other &= mode & 7;
      node->mode = (node->mode & ~mode_t{0777}) | acl.mode();
      if (!acl.plain()) node->xattrs[kAccess] = acl.bytes();
      if (type == S_IFDIR) node->xattrs[kDefault] = found->second;
    } else {
      node->mode &= ~who.umask;
    }
    touch(node->mtime, node->ctime);
    return node;
  }
  void lose_link(const NodePtr& node) {
    node->nlink = node->is_dir() ? 0 : node->nlink - 1;
    unlinked_.push_back(node);  // its window is still open
    touch(node->ctime);
  }
  void changed_bytes(const NodePtr& node, bool kill) {
    if (kill) drop_set_id(node, node->gid == 0);  // by user 0 of group 0, without CAP_FSETID
    node->xattrs.erase("security.capability");
    touch(node->mtime, node->ctime);
  }
  template <class... Windows>
  void touch(Windows&... windows) {
    ((windows.earliest = start_, windows.latest = start_, open_.push_back(&windows)), ...);
  }

  NodePtr root_;
  Moment start_{};
  std::vector<Window*> open_;
  std::vector<NodePtr> unlinked_;
};

}  // namespace layerfs::unionfs::model
