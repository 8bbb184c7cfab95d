// SPDX-License-Identifier: Apache-2.0
// The bytes of regular files: read, write, fallocate, lseek.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "fs/base/log.h"
#include "fs/base/sys_file.h"
#include "fs/union/union.h"

namespace layerfs::unionfs {

using tree::ContentKind;

Result<std::size_t> Union::read(Ino ino, std::uint64_t offset, std::span<std::byte> buffer) {
  LAYERFS_ASSIGN(Node node, get_regular(ino));
  // What is no data file's never changes: no lock.
  if (!has_data_file(node.content)) return content_.read(ino, node, offset, buffer);
  std::shared_lock hold(locks_.of(ino));
  LAYERFS_ASSIGN(node, get_regular(ino));
  return content_.read(ino, node, offset, buffer);
}

Result<std::uint64_t> Union::lseek(Ino ino, std::uint64_t offset, int whence) {
  if (whence != SEEK_DATA && whence != SEEK_HOLE) return errno_error(EINVAL);
  std::shared_lock hold(locks_.of(ino));
  LAYERFS_ASSIGN(Node node, get_regular(ino));
  return content_.seek(ino, node, offset, whence);
}

Result<std::size_t> Union::write_once(Ino ino, std::uint64_t offset, std::span<const std::byte> data,
                                      WriteFlags flags, const Caller& caller) {
  if (data.size() > kMaxFileSize || offset > kMaxFileSize - data.size()) return errno_error(EFBIG);
  LAYERFS_ASSIGN(const auto pass, gate_.pass(caller.when_frozen));
  LAYERFS_TRY(check_writable());
  ExclusiveLocks locks(locks_, ino);
  LAYERFS_ASSIGN(Node node, get_regular(ino));
  if (data.empty()) return 0;

  // What is written over whole need not be copied first.
  std::uint64_t reach = std::max(node.size, offset + data.size());
  bool copies = Content::would_copy(node, reach);
  bool covers_all = copies && offset == 0 && data.size() >= node.size;
  LAYERFS_ASSIGN(DataPlace place, content_.make_data(ino, node, covers_all ? 0 : node.size, reach));
  bool ranged = !node.object.is_zero();
  bool only_writes = covers_all || !copies;
  if (offset > node.size && !ranged) {
    LAYERFS_TRY(content_.cut_tail(place, node.size));
    note_holes(node, offset);
    only_writes = false;
  }
  LAYERFS_ASSIGN(std::size_t count, pwrite_most(place.fd(), data, place.offset + offset));
  // A short write that was to cover everything: what it left of the old bytes is still wanted.
  if (covers_all && offset + count < node.size) return errno_error(ENOSPC);

  tree::ChangeSet set = change_of(caller);
  if (only_writes) set.written = {ino, offset, count};
  node.size = std::max(node.size, offset + count);
  if (ranged) set.changes.emplace_back(tree::AddExtent{ino, offset, count});
  LAYERFS_TRY(touch_content(set, ino, node, flags.kill_suid_sgid ? &caller : nullptr));
  LAYERFS_TRY(put_node(set, ino, node));
  LAYERFS_TRY(apply(set));
  return count;
}

// Requires: the range lies within the file.
Result<void> Union::zero_locked(tree::ChangeSet& set, Ino ino, Node& node, std::uint64_t offset,
                                std::uint64_t length) const {
  if (node.content == ContentKind::kNone) return {};
  LAYERFS_ASSIGN(DataPlace place, content_.make_data(ino, node, node.size, node.size));
  LAYERFS_TRY(zero_range(place.fd(), place.offset + offset, length));
  if (!node.object.is_zero()) {
    LAYERFS_TRY(Content::extend(place, offset + length));
    set.changes.emplace_back(tree::AddExtent{ino, offset, length});
  }
  note_holes(node, offset + length);
  return {};
}

// Blocks for a range. Over a base they are reserved beside it: a later write finds them.
Result<void> Union::allocate_locked(Ino ino, Node& node, std::uint64_t offset, std::uint64_t length) const {
  // What is allocated and not written is told from a hole only in a file of its own.
  LAYERFS_ASSIGN(DataPlace place, content_.make_data(ino, node, node.size, kMaxFileSize));
  if (offset + length > node.size && node.object.is_zero()) LAYERFS_TRY(content_.cut_tail(place, node.size));
  LAYERFS_ASSIGN(const struct stat before, stat_fd(place.fd()));
  int result = ::fallocate(place.fd(), FALLOC_FL_KEEP_SIZE, static_cast<off_t>(place.offset + offset),
                           static_cast<off_t>(length));
  int code = errno;
  // Whether it is for the file's own bytes or beyond them, the size does not tell its blocks any more.
  note_holes(node, offset + length);
  if (result == 0) return {};
  // What it got before the disk was full goes back, as far as it lies beyond the end (truncate(2) to the
  // length that the file has): nobody would know of it. Unless an earlier call got blocks there, which are
  // promised: then the file has more of them than its length takes.
  const auto whole = (before.st_size + before.st_blksize - 1) / before.st_blksize * before.st_blksize;
  const bool has_promised = before.st_blocks * 512 > whole;
  const bool is_full = code == ENOSPC || code == EDQUOT;
  if (is_full && !has_promised && ::ftruncate(place.fd(), before.st_size) != 0)
    log_debug("give back the blocks of a failed allocation: {}", errno_text(errno));
  return system_error(code, "allocate data file");
}

// The data file grows with the size that the node gets. Requires: allocate_locked() has given it one, if at
// all.
Result<void> Union::extend_locked(Ino ino, Node& node, std::uint64_t size) const {
  if (!has_data_file(node.content) || !node.object.is_zero()) return {};
  LAYERFS_ASSIGN(DataPlace place, content_.make_data(ino, node, node.size, size));
  LAYERFS_TRY(Content::extend(place, size));
  note_holes(node, size);
  return {};
}

Result<void> Union::fallocate_once(Ino ino, int mode, std::uint64_t offset, std::uint64_t length,
                                   const Caller& caller) {
  constexpr int kKnown = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
  bool punch = (mode & FALLOC_FL_PUNCH_HOLE) != 0;
  bool zero = (mode & FALLOC_FL_ZERO_RANGE) != 0;
  bool keep_size = (mode & FALLOC_FL_KEEP_SIZE) != 0;
  if ((mode & ~kKnown) != 0 || (punch && (zero || !keep_size))) return errno_error(EOPNOTSUPP);
  if (length == 0) return errno_error(EINVAL);
  if (length > kMaxFileSize || offset > kMaxFileSize - length) return errno_error(EFBIG);
  LAYERFS_ASSIGN(const auto pass, gate_.pass(caller.when_frozen));
  LAYERFS_TRY(check_writable());
  ExclusiveLocks locks(locks_, ino);
  LAYERFS_ASSIGN(Node node, get_regular(ino));

  tree::ChangeSet set = change_of(caller);
  std::uint64_t end = offset + length;
  // The blocks come first: where there are none, no byte may have changed, because the kernel keeps its pages
  // of a call that failed.
  if (!punch) {
    auto allocated = allocate_locked(ino, node, offset, length);
    // A range of zeros is right without blocks too.
    if (!allocated && !(zero && allocated.error().code == EOPNOTSUPP)) return allocated;
  }
  if ((punch || zero) && offset < node.size)
    LAYERFS_TRY(zero_locked(set, ino, node, offset, std::min(end, node.size) - offset));
  // Zeroing gave them back. Where others have taken them meanwhile, the zeros are right without.
  if (zero) [[maybe_unused]]
    auto again = allocate_locked(ino, node, offset, length);
  if (!punch && !keep_size && end > node.size) {
    LAYERFS_TRY(extend_locked(ino, node, end));
    node.size = end;
  }
  LAYERFS_TRY(touch_content(set, ino, node, caller.kills_set_id ? &caller : nullptr));
  LAYERFS_TRY(put_node(set, ino, node));
  return apply(set);
}

}  // namespace layerfs::unionfs
