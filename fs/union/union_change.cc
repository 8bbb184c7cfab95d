// SPDX-License-Identifier: Apache-2.0
// Names come and go: mknod, mkdir, symlink, tmpfile, link, unlink, rmdir.
#include <sys/stat.h>

#include "fs/union/acl.h"
#include "fs/union/union.h"

namespace layerfs::unionfs {

namespace {

// A name was added to or taken from it.
void touch_directory(Node& dir, Time time) { dir.mtime = dir.ctime = time; }

}  // namespace

// Owner, group, mode and ACLs of a new node (inode_init_owner() of the kernel; acl(5)).
Result<void> Union::inherit(tree::ChangeSet& set, Ino dir, const Node& parent, Ino ino, Node& node,
                            const Caller& caller) const {
  bool is_directory = node.kind == NodeKind::kDirectory;
  node.uid = caller.uid;
  node.gid = caller.gid;
  if ((parent.mode & S_ISGID) != 0) {
    node.gid = parent.gid;
    if (is_directory) node.mode |= S_ISGID;
  }
  if (node.kind == NodeKind::kSymlink) return {};
  LAYERFS_ASSIGN(auto default_acl, view_.find_xattr(dir, kAclDefault));
  if (!default_acl) {
    node.mode &= static_cast<std::uint16_t>(~caller.umask);
    return {};
  }
  LAYERFS_ASSIGN(Acl inherited, parse_acl(*default_acl));
  mode_t mode = node.mode;
  if (auto access = inherit_acl(inherited, mode))
    set.changes.emplace_back(tree::PutXattr{ino, std::string(kAclAccess), to_bytes(*access)});
  node.mode = static_cast<std::uint16_t>(mode);
  if (is_directory)
    set.changes.emplace_back(tree::PutXattr{ino, std::string(kAclDefault), std::move(*default_acl)});
  return {};
}

Result<Entry> Union::create(Ino dir, const NewNode& what, const Caller& caller) {
  bool is_named = !what.name.empty();
  LAYERFS_ASSIGN(const auto pass, gate_.pass(caller.when_frozen));
  LAYERFS_TRY(check_writable());
  ExclusiveLocks locks(locks_, dir);
  if (is_named && was_done(caller)) return answer_entry(dir, what.name);
  LAYERFS_ASSIGN(Node parent, view_.get_node(dir));
  if (parent.kind != NodeKind::kDirectory) return errno_error(ENOTDIR);
  // The kernel lets O_TMPFILE through to a directory that is gone, and ext4 has this errno for it.
  if (parent.nlink == 0) return errno_error(is_named ? ENOENT : EPERM);
  if (is_named) {
    LAYERFS_ASSIGN(auto there, view_.find_entry(dir, what.name));
    if (there) return errno_error(EEXIST);
  }

  tree::ChangeSet set = metadata_change_of(caller);
  Ino ino = upper_->allocate_ino();
  Node node;
  node.kind = what.kind;
  node.mode = static_cast<std::uint16_t>(what.mode & 07777);
  node.rdev = what.rdev;
  node.mtime = node.ctime = node.atime = now({parent.ctime});
  node.nlink = is_named ? 1 : 0;
  if (what.kind == NodeKind::kDirectory) {
    node.nlink = 2;
    node.parent = dir;
    ++parent.nlink;
  }
  if (what.kind == NodeKind::kSymlink) {
    node.content = tree::ContentKind::kInline;
    node.size = what.target.size();
    set.changes.emplace_back(tree::PutInline{ino, std::string(what.target)});
  }
  LAYERFS_TRY(inherit(set, dir, parent, ino, node, caller));
  set.changes.emplace_back(tree::PutNode{ino, node});
  if (is_named) {
    set.changes.emplace_back(tree::PutEntry{dir, std::string(what.name), ino, what.kind});
    touch_directory(parent, node.mtime);
    LAYERFS_TRY(put_node(set, dir, parent));
  }
  LAYERFS_TRY(apply(set));
  counts_.add(ino);
  return Entry{ino, node};
}

Result<Entry> Union::mknod(Ino dir, std::string_view name, mode_t mode, std::uint64_t rdev,
                           const Caller& caller) {
  LAYERFS_TRY(check_name(name));
  if (is_dot_or_dotdot(name)) return errno_error(EEXIST);
  NewNode what{.name = name, .mode = mode};
  switch (mode & S_IFMT) {
    case 0:
    case S_IFREG: break;
    case S_IFCHR:
    case S_IFBLK: what.rdev = rdev; [[fallthrough]];
    case S_IFIFO:
    case S_IFSOCK: what.kind = tree::from_file_type(mode); break;
    default: return errno_error(EINVAL);
  }
  return create(dir, what, caller);
}

Result<Entry> Union::mkdir(Ino dir, std::string_view name, mode_t mode, const Caller& caller) {
  LAYERFS_TRY(check_name(name));
  if (is_dot_or_dotdot(name)) return errno_error(EEXIST);
  return create(dir, {.name = name, .kind = NodeKind::kDirectory, .mode = mode}, caller);
}

Result<Entry> Union::symlink(Ino dir, std::string_view name, std::string_view target, const Caller& caller) {
  LAYERFS_TRY(check_name(name));
  if (is_dot_or_dotdot(name)) return errno_error(EEXIST);
  if (target.empty()) return errno_error(ENOENT);
  if (target.size() > tree::kMaxPath) return errno_error(ENAMETOOLONG);
  return create(dir, {.name = name, .kind = NodeKind::kSymlink, .mode = 0777, .target = target}, caller);
}

Result<Entry> Union::tmpfile(Ino dir, mode_t mode, const Caller& caller) {
  return create(dir, {.name = {}, .mode = mode}, caller);
}

Result<Entry> Union::link(Ino ino, Ino new_dir, std::string_view new_name, const Caller& caller) {
  LAYERFS_TRY(check_name(new_name));
  if (is_dot_or_dotdot(new_name)) return errno_error(EEXIST);
  LAYERFS_ASSIGN(const auto pass, gate_.pass(caller.when_frozen));
  LAYERFS_TRY(check_writable());
  Dentry dentry{new_dir, new_name};
  ExclusiveLocks locks(locks_);
  LAYERFS_TRY(lock_dentries(locks, {&dentry, 1}, ino));
  if (was_done(caller)) return answer_entry(new_dir, new_name);
  LAYERFS_ASSIGN(Node parent, get_live_directory(new_dir));
  if (dentry.entry) return errno_error(EEXIST);
  LAYERFS_ASSIGN(Node node, view_.get_node(ino));
  if (node.kind == NodeKind::kDirectory) return errno_error(EPERM);
  if (node.nlink >= kMaxLinks) return errno_error(EMLINK);

  // An unlinked file may come back only as an unnamed one does: vfs_link() sees to that (I_LINKABLE).
  tree::ChangeSet set = metadata_change_of(caller);
  Time time = now({parent.ctime, node.ctime});
  ++node.nlink;
  node.ctime = time;
  touch_directory(parent, time);
  LAYERFS_TRY(put_name(set, new_dir, new_name, ino, node.kind));
  LAYERFS_TRY(put_node(set, ino, node));
  LAYERFS_TRY(put_node(set, new_dir, parent));
  LAYERFS_TRY(apply(set));
  counts_.add(ino);
  return Entry{ino, node};
}

Result<void> Union::remove(Ino dir, std::string_view name, NodeKind kind, const Caller& caller) {
  LAYERFS_ASSIGN(const auto pass, gate_.pass(caller.when_frozen));
  LAYERFS_TRY(check_writable());
  Dentry dentry{dir, name};
  ExclusiveLocks locks(locks_);
  LAYERFS_TRY(lock_dentries(locks, {&dentry, 1}, Ino{0}));
  if (was_done(caller)) return {};
  LAYERFS_ASSIGN(Node parent, get_live_directory(dir));
  if (!dentry.entry) return errno_error(ENOENT);
  auto [ino, node] = *dentry.entry;
  bool is_directory = node.kind == NodeKind::kDirectory;
  if (is_directory && kind != NodeKind::kDirectory) return errno_error(EISDIR);
  if (!is_directory && kind == NodeKind::kDirectory) return errno_error(ENOTDIR);
  if (is_directory) {
    LAYERFS_ASSIGN(bool empty, view_.is_empty(ino));
    if (!empty) return errno_error(ENOTEMPTY);
    --parent.nlink;
  }
  tree::ChangeSet set = metadata_change_of(caller);
  Time time = now({parent.ctime, node.ctime});
  LAYERFS_TRY(remove_name(set, dir, name));
  LAYERFS_TRY(drop_link(set, ino, node, time));
  touch_directory(parent, time);
  LAYERFS_TRY(put_node(set, dir, parent));
  LAYERFS_TRY(apply(set));
  erase_if_forgotten(ino);
  return {};
}

Result<void> Union::unlink(Ino dir, std::string_view name, const Caller& caller) {
  LAYERFS_TRY(check_name(name));
  if (is_dot_or_dotdot(name)) return errno_error(EISDIR);
  return remove(dir, name, NodeKind::kRegular, caller);
}

Result<void> Union::rmdir(Ino dir, std::string_view name, const Caller& caller) {
  LAYERFS_TRY(check_name(name));
  if (name == ".") return errno_error(EINVAL);
  if (name == "..") return errno_error(ENOTEMPTY);
  return remove(dir, name, NodeKind::kDirectory, caller);
}

}  // namespace layerfs::unionfs
