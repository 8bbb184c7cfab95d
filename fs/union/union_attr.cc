// SPDX-License-Identifier: Apache-2.0
// setattr: mode, owner, size and times, and what each brings along.
#include <sys/stat.h>

#include "fs/base/log.h"
#include "fs/union/acl.h"
#include "fs/union/union.h"

namespace layerfs::unionfs {

namespace {

bool is_in_group(const Caller& caller, Gid gid) {
  return caller.gid == gid || (caller.has_group != nullptr && caller.has_group(caller, gid));
}

// Takes the set-id bits away, as a change by `caller` does. Where the group may not execute the file, S_ISGID
// means mandatory locking and not set-gid (inode(7)). It is then taken away only from a caller who could not
// have set it: one who neither has CAP_FSETID nor is in the file's group (setattr_should_drop_sgid(), Linux
// 6.2). `fsetid` says whether root counts as having CAP_FSETID in this call.
enum class Fsetid : std::uint8_t { kNo, kOfRoot };
void clear_set_id(Node& node, const Caller& caller, Fsetid fsetid) {
  node.mode &= static_cast<std::uint16_t>(~S_ISUID);
  if ((node.mode & S_ISGID) == 0) return;
  bool could_set = (fsetid == Fsetid::kOfRoot && caller.uid == Uid{0}) || is_in_group(caller, node.gid);
  if ((node.mode & S_IXGRP) != 0 || !could_set) node.mode &= static_cast<std::uint16_t>(~S_ISGID);
}

// Every file system that can hold data files takes files up to this size. Whether it takes a larger one is
// found out by making the data file that long (EFBIG).
constexpr std::uint64_t kSurelyFits = std::uint64_t{1} << 40;

// True for a SETATTR that changes nothing. The kernel sends one for a chown(2) that is to leave owner and
// group as they are, and for a write(2) that is to take set-id bits or capabilities away; the WRITE that
// follows says so itself.
bool asks_nothing(const SetAttr& changes) {
  return !changes.mode && !changes.uid && !changes.gid && !changes.size && !changes.atime && !changes.mtime &&
         !changes.ctime && !changes.atime_now && !changes.mtime_now;
}

}  // namespace

Result<void> Union::drop_capability(tree::ChangeSet& set, Ino ino) const {
  LAYERFS_ASSIGN(auto capability, view_.find_xattr(ino, kCapability));
  if (capability) LAYERFS_TRY(remove_xattr(set, ino, kCapability));
  return {};
}

Result<void> Union::touch_content(tree::ChangeSet& set, Ino ino, Node& node, const Caller* killer) const {
  node.mtime = node.ctime = now({node.ctime});
  if (killer != nullptr) clear_set_id(node, *killer, Fsetid::kNo);
  return drop_capability(set, ino);
}

Result<void> Union::resize(tree::ChangeSet& set, Ino ino, Node& node, std::uint64_t size) const {
  using tree::ContentKind;
  if (size == node.size) return {};
  bool elsewhere = node.content == ContentKind::kObject || node.content == ContentKind::kInline;
  if (elsewhere && size == 0) {
    node.content = ContentKind::kNone;
    node.object = Digest{};
  } else if (elsewhere) {
    LAYERFS_ASSIGN(DataPlace data, content_.make_data(ino, node, size, size));
    if (size > node.size) {
      if (node.object.is_zero() || size > kSurelyFits) LAYERFS_TRY(Content::extend(data, size));
      note_holes(node, size);
    }
  } else if (has_data_file(node.content)) {
    bool ranged = !node.object.is_zero();
    if (size < node.size && ranged) set.changes.emplace_back(tree::TrimExtents{ino, size});
    node.base_size = std::min(node.base_size, size);
    if (size == 0) node.object = Digest{};
    if (size > node.size && (!ranged || size > kSurelyFits)) {
      LAYERFS_ASSIGN(DataPlace data, content_.make_data(ino, node, node.size, size));
      if (!ranged) LAYERFS_TRY(content_.cut_tail(data, node.size));
      LAYERFS_TRY(Content::extend(data, size));
      note_holes(node, size);
    }
  } else if (size > kSurelyFits) {
    // A hole needs no data file, but whether it may be written to only the file system below knows.
    LAYERFS_ASSIGN(DataPlace data, content_.make_data(ino, node, 0, size));
    LAYERFS_TRY(Content::extend(data, size));
    note_holes(node, size);
  }
  node.size = size;
  return {};
}

Result<void> Union::change_mode(tree::ChangeSet& set, Ino ino, Node& node, std::uint16_t mode) const {
  node.mode = mode & 07777;
  LAYERFS_ASSIGN(auto bytes, view_.find_xattr(ino, kAclAccess));
  if (!bytes) return {};
  LAYERFS_ASSIGN(Acl acl, parse_acl(*bytes));
  set_mode(acl, mode);
  set.changes.emplace_back(tree::PutXattr{ino, std::string(kAclAccess), to_bytes(acl)});
  return {};
}

// A chown(2) that leaves owner and group takes set-id bits away. On other file systems the kernel turns it
// into a chmod(2), which only the owner and root may do (setattr_prepare()); a FUSE server is not told which
// of the two it was. So the check of the owner is made here. For any other caller nothing is done and no
// error given, because the same request also comes before that caller's write(2) (asks_nothing()).
Result<void> Union::chown_neither(tree::ChangeSet& set, Ino ino, Node& node, const Caller& caller) const {
  bool may_chmod = caller.uid == node.uid || caller.uid == Uid{0};
  if (node.kind == NodeKind::kDirectory || !may_chmod) return {};
  clear_set_id(node, caller, Fsetid::kOfRoot);
  return drop_capability(set, ino);
}

Result<Node> Union::setattr_once(Ino ino, const SetAttr& changes, const Caller& caller) {
  LAYERFS_ASSIGN(const auto pass, gate_.pass(caller.when_frozen));
  LAYERFS_TRY(check_writable());
  ExclusiveLocks locks(locks_, ino);
  LAYERFS_ASSIGN(Node node, view_.get_node(ino));
  tree::ChangeSet set = metadata_change_of(caller);
  Time time = now({node.ctime});
  bool shrinks = false;
  if (changes.size) {
    if (node.kind == NodeKind::kDirectory) return errno_error(EISDIR);
    if (node.kind != NodeKind::kRegular) return errno_error(EINVAL);
    if (*changes.size > kMaxFileSize) return errno_error(EFBIG);
    shrinks = *changes.size < node.size;
    if (*changes.size != node.size) set.written.reset();  // resize() may copy the data and cut it
    LAYERFS_TRY(resize(set, ino, node, *changes.size));
    LAYERFS_TRY(touch_content(set, ino, node, changes.kill_suid_sgid ? &caller : nullptr));
  }
  if (changes.uid || changes.gid) {
    // A chown(2) of a file takes set-id bits away, by root too (chown(2): since Linux 2.2.13). Whether the
    // caller is in the file's group is asked of the group that the file had before.
    if (node.kind != NodeKind::kDirectory) {
      clear_set_id(node, caller, Fsetid::kOfRoot);
      if (!changes.size) LAYERFS_TRY(drop_capability(set, ino));
    }
    node.uid = changes.uid.value_or(node.uid);
    node.gid = changes.gid.value_or(node.gid);
  }
  if (asks_nothing(changes)) LAYERFS_TRY(chown_neither(set, ino, node, caller));
  if (changes.mode) LAYERFS_TRY(change_mode(set, ino, node, *changes.mode));
  if (changes.atime_now) node.atime = time;
  if (changes.mtime_now) node.mtime = time;
  if (changes.atime) node.atime = *changes.atime;
  if (changes.mtime) node.mtime = *changes.mtime;
  node.ctime = changes.ctime.value_or(time);
  LAYERFS_TRY(put_node(set, ino, node));
  LAYERFS_TRY(apply(set));
  // The data file is cut after the new size is in the upper, not before. A crash between the two leaves bytes
  // behind the end of the file, which nobody sees; in the other order it would leave zeros within the file.
  if (shrinks && has_data_file(node.content)) {
    auto cut = content_.cut_data(ino, node);
    if (!cut) log_warning("give back the space of a truncated file: {}", cut.error().message());
  }
  return node;
}

}  // namespace layerfs::unionfs
