// SPDX-License-Identifier: Apache-2.0
// rename(2): of a file or a directory, lower or upper, it moves one directory entry.
#include <fcntl.h>
#include <stdio.h>

#include "fs/union/union.h"

namespace layerfs::unionfs {

struct Union::RenamePlan {
  Dentry from;
  Dentry to;
  bool exchange = false;
  bool across() const { return from.dir != to.dir; }
};

// True where `dir` is `above` or lies somewhere below it. Requires: topology_ is held.
Result<bool> Union::is_below(Ino dir, Ino above) const {
  for (;;) {
    if (dir == above) return true;
    if (dir == tree::kRootIno) return false;
    LAYERFS_ASSIGN(Node node, view_.get_node(dir));
    dir = node.parent;
  }
}

Result<void> Union::check_rename(const RenamePlan& plan) const {
  const auto& [from_ino, from] = *plan.from.entry;
  bool is_directory = from.kind == NodeKind::kDirectory;
  if (plan.across() && is_directory) {
    LAYERFS_ASSIGN(bool loop, is_below(plan.to.dir, from_ino));
    if (loop) return errno_error(EINVAL);
  }
  if (!plan.to.entry) return {};
  const auto& [to_ino, to] = *plan.to.entry;
  bool over_directory = to.kind == NodeKind::kDirectory;
  if (plan.exchange) {
    if (!plan.across() || !over_directory) return {};
    LAYERFS_ASSIGN(bool loop, is_below(plan.from.dir, to_ino));
    if (loop) return errno_error(EINVAL);
    return {};
  }
  if (is_directory && !over_directory) return errno_error(ENOTDIR);
  if (!is_directory && over_directory) return errno_error(EISDIR);
  if (!over_directory) return {};
  LAYERFS_ASSIGN(bool empty, view_.is_empty(to_ino));
  if (!empty) return errno_error(ENOTEMPTY);
  return {};
}

Result<void> Union::apply_rename(RenamePlan& plan, const Caller& caller) {
  tree::ChangeSet set = metadata_change_of(caller);
  LAYERFS_ASSIGN(Node old_parent, view_.get_node(plan.from.dir));
  LAYERFS_ASSIGN(Node new_parent, view_.get_node(plan.to.dir));
  const Node& replaced = plan.to.entry ? plan.to.entry->node : old_parent;
  Time time = now({old_parent.ctime, new_parent.ctime, plan.from.entry->node.ctime, replaced.ctime});
  // Of one directory there must be one copy: both names are changed in it.
  Node& new_place = plan.across() ? new_parent : old_parent;
  auto leave = [](Node& parent, const Node& node) {
    parent.nlink -= node.kind == NodeKind::kDirectory ? 1 : 0;
  };
  auto arrive = [&](Node& parent, Ino parent_ino, Node& node) {
    node.ctime = time;
    if (node.kind != NodeKind::kDirectory) return;
    node.parent = parent_ino;
    ++parent.nlink;
  };

  auto& [from_ino, from] = *plan.from.entry;
  leave(old_parent, from);
  if (plan.to.entry) leave(new_place, plan.to.entry->node);
  arrive(new_place, plan.to.dir, from);
  if (plan.exchange) {
    auto& [to_ino, to] = *plan.to.entry;
    arrive(old_parent, plan.from.dir, to);
    LAYERFS_TRY(put_name(set, plan.from.dir, plan.from.name, to_ino, to.kind));
    LAYERFS_TRY(put_node(set, to_ino, to));
  } else {
    LAYERFS_TRY(remove_name(set, plan.from.dir, plan.from.name));
    if (plan.to.entry) LAYERFS_TRY(drop_link(set, plan.to.entry->ino, plan.to.entry->node, time));
  }
  LAYERFS_TRY(put_name(set, plan.to.dir, plan.to.name, from_ino, from.kind));
  LAYERFS_TRY(put_node(set, from_ino, from));
  old_parent.mtime = old_parent.ctime = time;
  LAYERFS_TRY(put_node(set, plan.from.dir, old_parent));
  if (plan.across()) {
    new_parent.mtime = new_parent.ctime = time;
    LAYERFS_TRY(put_node(set, plan.to.dir, new_parent));
  }
  LAYERFS_TRY(apply(set));
  if (plan.to.entry && !plan.exchange) erase_if_forgotten(plan.to.entry->ino);
  return {};
}

Result<void> Union::rename(Ino dir, std::string_view name, Ino new_dir, std::string_view new_name,
                           unsigned flags, const Caller& caller) {
  if ((flags & ~unsigned{RENAME_NOREPLACE | RENAME_EXCHANGE}) != 0) return errno_error(EINVAL);
  if (flags == (RENAME_NOREPLACE | RENAME_EXCHANGE)) return errno_error(EINVAL);
  LAYERFS_TRY(check_name(name));
  LAYERFS_TRY(check_name(new_name));
  if (is_dot_or_dotdot(name) || is_dot_or_dotdot(new_name))
    return errno_error((flags & RENAME_NOREPLACE) != 0 ? EEXIST : EBUSY);

  LAYERFS_ASSIGN(const auto pass, gate_.pass(caller.when_frozen));
  LAYERFS_TRY(check_writable());
  // Before the inode locks: the check for loops walks up through directories that are not locked.
  std::unique_lock topology(topology_, std::defer_lock);
  if (dir != new_dir) topology.lock();
  std::array<Dentry, 2> dentries{Dentry{dir, name}, Dentry{new_dir, new_name}};
  ExclusiveLocks locks(locks_);
  LAYERFS_TRY(lock_dentries(locks, dentries, Ino{0}));
  if (was_done(caller)) return {};
  LAYERFS_TRY(get_live_directory(dir));
  LAYERFS_TRY(get_live_directory(new_dir));

  RenamePlan plan{dentries[0], dentries[1], (flags & RENAME_EXCHANGE) != 0};
  if (!plan.from.entry) return errno_error(ENOENT);
  if (plan.exchange && !plan.to.entry) return errno_error(ENOENT);
  if ((flags & RENAME_NOREPLACE) != 0 && plan.to.entry) return errno_error(EEXIST);
  // Two names of one file: nothing to do (rename(2), "oldpath and newpath are existing hard links").
  if (plan.to.entry && plan.from.entry->ino == plan.to.entry->ino) return {};
  LAYERFS_TRY(check_rename(plan));
  return apply_rename(plan, caller);
}

}  // namespace layerfs::unionfs
