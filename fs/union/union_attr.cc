// SPDX-License-Identifier: Apache-2.0
// setattr: mode, owner, size and times, and what each brings along.
#include <sys/stat.h>

#include "fs/base/log.h"
#include "fs/union/acl.h"
#include "fs/union/union.h"

namespace layerfs::unionfs {

namespace {

// S_ISGID without group execution does not stand for set-gid (inode(7)); it stays.
void clear_set_id(Node& node) {
  node.mode &= static_cast<std::uint16_t>(~S_ISUID);
  if ((node.mode & S_IXGRP) != 0) node.mode &= static_cast<std::uint16_t>(~S_ISGID);
}

// What chown(2) sends where it is to leave both owner and group; and a write(2) that is to take set-id bits
// or capabilities away, before the WRITE that says so itself.
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

Result<void> Union::touch_content(tree::ChangeSet& set, Ino ino, Node& node, bool kill_suid_sgid) const {
  node.mtime = node.ctime = now({node.ctime});
  if (kill_suid_sgid) clear_set_id(node);
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
    LAYERFS_TRY(content_.make_data(ino, node, size, size));
    if (size > node.size) note_holes(node, size);
  } else if (has_data_file(node.content)) {
    bool ranged = !node.object.is_zero();
    if (size < node.size && ranged) set.changes.emplace_back(tree::TrimExtents{ino, size});
    node.base_size = std::min(node.base_size, size);
    if (size == 0) node.object = Digest{};
    if (size > node.size && !ranged) {
      LAYERFS_ASSIGN(DataPlace data, content_.make_data(ino, node, node.size, size));
      LAYERFS_TRY(content_.cut_tail(data, node.size));
      note_holes(node, size);
    }
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

// Elsewhere the kernel makes that chown a chmod(2), with its check of the owner (setattr_prepare()); of FUSE
// it says nothing. Others are let pass: it may be their write.
Result<void> Union::chown_neither(tree::ChangeSet& set, Ino ino, Node& node, const Caller& caller) const {
  bool may_chmod = caller.uid == node.uid || caller.uid == Uid{0};
  if (node.kind == NodeKind::kDirectory || !may_chmod) return {};
  clear_set_id(node);
  return drop_capability(set, ino);
}

Result<Node> Union::setattr(Ino ino, const SetAttr& changes, const Caller& caller) {
  FreezeGate::Pass pass(gate_);
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
    if (*changes.size != node.size) set.written.reset();  // its data may be copied and cut
    LAYERFS_TRY(resize(set, ino, node, *changes.size));
    LAYERFS_TRY(touch_content(set, ino, node, changes.kill_suid_sgid));
  }
  if (changes.uid || changes.gid) {
    node.uid = changes.uid.value_or(node.uid);
    node.gid = changes.gid.value_or(node.gid);
    // Whoever changes it (chown(2) of a file by root too, as Linux has it since 2.2.13).
    if (node.kind != NodeKind::kDirectory) {
      clear_set_id(node);
      if (!changes.size) LAYERFS_TRY(drop_capability(set, ino));
    }
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
  // Only once the size is recorded: a crash in between leaves bytes that nobody sees, never a file of zeros.
  if (shrinks && has_data_file(node.content)) {
    auto cut = content_.cut_data(ino, node);
    if (!cut) log_warning("give back the space of a truncated file: {}", cut.error().message());
  }
  return node;
}

}  // namespace layerfs::unionfs
