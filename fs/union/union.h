// SPDX-License-Identifier: Apache-2.0
// Union: the one implementation of UnionFs, spread over union_*.cc by subject. Private to the folder.
//
// (1) A changing call: pass the gate, check that something may be changed, lock, look, build one ChangeSet,
//     apply it. Nothing before apply() is seen by anybody, bytes in a data file excepted (upper_layer.h, 3).
// (2) Directories: nlink is 2 + subdirectories, parent is right; one that is removed has nlink 0, and no
//     entry that anybody sees.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <vector>

#include "fs/tree/over_tree.h"
#include "fs/union/content.h"
#include "fs/union/descriptor_cache.h"
#include "fs/union/freeze_gate.h"
#include "fs/union/inode_locks.h"
#include "fs/union/inode_table.h"
#include "fs/union/union_fs.h"

namespace layerfs::unionfs {

inline constexpr std::uint32_t kMaxLinks = 65000;  // EXT4_LINK_MAX
inline constexpr std::uint64_t kMaxFileSize = INT64_MAX;
inline constexpr std::string_view kCapability = "security.capability";

/// The time of a change of nodes that were changed last at `before`: by the kernel's own clock for file times
/// (ktime_get_coarse_real_ts64), so that ours and its compare; where that has not ticked since then by the
/// finest, so that whoever looked in between sees the change (as of Linux 6.13, multigrain timestamps).
Time now(std::initializer_list<Time> before);
/// Errors: ENOENT (empty), ENAMETOOLONG, EINVAL ('/' or NUL inside).
Result<void> check_name(std::string_view name);
bool is_dot_or_dotdot(std::string_view name);

class Union final : public UnionFs {
 public:
  Union(std::shared_ptr<const tree::TreeSource> lower, std::shared_ptr<const tree::BlobSource> blobs,
        std::shared_ptr<tree::UpperLayer> upper, UnionOptions options);
  /// Forgets the orphans of the last time. Errors: kCorrupt where there is no root.
  Result<void> begin();

  Result<Entry> lookup(Ino dir, std::string_view name) override;
  void inherit_lookups(std::function<bool(Ino)> is_held) override;
  void forget(Ino ino, std::uint64_t count) override;
  Result<Node> getattr(Ino ino) override;
  std::uint64_t blocks(Ino ino, const Node& node) override { return content_.blocks(ino, node); }
  Result<Node> setattr(Ino ino, const SetAttr& changes, const Caller& caller) override {
    return with_room([&] { return setattr_once(ino, changes, caller); });
  }
  Result<std::string> readlink(Ino ino) override;
  Result<Entry> mknod(Ino dir, std::string_view name, mode_t mode, std::uint64_t rdev,
                      const Caller& caller) override;
  Result<Entry> mkdir(Ino dir, std::string_view name, mode_t mode, const Caller& caller) override;
  Result<Entry> symlink(Ino dir, std::string_view name, std::string_view target,
                        const Caller& caller) override;
  Result<Entry> tmpfile(Ino dir, mode_t mode, const Caller& caller) override;
  Result<void> unlink(Ino dir, std::string_view name, const Caller& caller) override;
  Result<void> rmdir(Ino dir, std::string_view name, const Caller& caller) override;
  Result<void> rename(Ino dir, std::string_view name, Ino new_dir, std::string_view new_name, unsigned flags,
                      const Caller& caller) override;
  Result<Entry> link(Ino ino, Ino new_dir, std::string_view new_name, const Caller& caller) override;
  Result<std::size_t> read(Ino ino, std::uint64_t offset, std::span<std::byte> buffer) override;
  Result<std::size_t> write(Ino ino, std::uint64_t offset, std::span<const std::byte> data, WriteFlags flags,
                            const Caller& caller) override {
    return with_room([&] { return write_once(ino, offset, data, flags, caller); });
  }
  Result<void> fallocate(Ino ino, int mode, std::uint64_t offset, std::uint64_t length,
                         const Caller& caller) override {
    return with_room([&] { return fallocate_once(ino, mode, offset, length, caller); });
  }
  Result<std::uint64_t> lseek(Ino ino, std::uint64_t offset, int whence) override;
  Result<std::size_t> copy_file_range(Ino in, std::uint64_t in_offset, Ino out, std::uint64_t out_offset,
                                      std::uint64_t length, const Caller& caller) override {
    return with_room([&] { return copy_once(in, in_offset, out, out_offset, length, caller); });
  }
  Result<void> fsync(Ino ino, FsyncKind kind) override;
  Result<void> fsyncdir(Ino ino) override;
  Result<void> sync() override;
  Result<void> readdir(Ino dir, DirCookie after, FunctionRef<bool(const EntryView&)> visit) override;
  void remember(Ino ino) override { counts_.add(ino); }
  Result<std::string> getxattr(Ino ino, std::string_view name) override;
  Result<std::string> listxattr(Ino ino) override;
  Result<void> setxattr(Ino ino, std::string_view name, std::string_view value, SetXattrMode mode,
                        const Caller& caller) override;
  Result<void> removexattr(Ino ino, std::string_view name, const Caller& caller) override;
  Result<struct statvfs> statfs() override;
  Result<void> freeze() override;
  void thaw() override;

 private:
  // A name in a directory, and what was behind it once everything was locked.
  struct Dentry {
    Ino dir;
    std::string_view name;
    std::optional<Entry> entry = std::nullopt;
  };
  struct NewNode {
    std::string_view name;  // empty: an unnamed file
    NodeKind kind = NodeKind::kRegular;
    mode_t mode = 0;
    std::uint64_t rdev = 0;
    std::string_view target = {};
  };
  struct RenamePlan;

  // Errors: EROFS.
  Result<void> check_writable() const;
  // True where the request was sent again and had been done before its answer was lost.
  bool was_done(const Caller& caller) const;
  static tree::ChangeSet change_of(const Caller& caller);
  // One that leaves the bytes of all files alone.
  static tree::ChangeSet metadata_change_of(const Caller& caller);

  // A directory that is still linked. Errors: ENOTDIR, ENOENT.
  Result<Node> get_live_directory(Ino dir) const;
  Result<Node> get_regular(Ino ino) const;
  // Locks each dentry's directory and what is behind its name, and `extra` (0: nothing).
  Result<void> lock_dentries(ExclusiveLocks& locks, std::span<Dentry> dentries, Ino extra) const;
  Result<bool> has_name(Ino ino, Node node) const;
  Result<Entry> lookup_number(Ino ino);
  Result<Entry> answer_entry(Ino dir, std::string_view name);

  // Pieces of ChangeSets. Requires: the inodes are locked.
  Result<void> put_node(tree::ChangeSet& set, Ino ino, const Node& node) const;
  Result<void> put_name(tree::ChangeSet& set, Ino dir, std::string_view name, Ino ino, NodeKind kind) const;
  Result<void> remove_name(tree::ChangeSet& set, Ino dir, std::string_view name) const;
  Result<void> remove_xattr(tree::ChangeSet& set, Ino ino, std::string_view name) const;
  // One link less; erased at once where nobody holds it.
  Result<void> drop_link(tree::ChangeSet& set, Ino ino, Node node, Time time) const;
  // False: of a directory only some tombstones, as there are more than fit into one change.
  bool erase(tree::ChangeSet& set, Ino ino, const Node& node) const;
  // Calls `attempt`; where the disk is full for it and erased files give something back, once more. Requires:
  // no lock is held, the gate not passed; after an error nothing of the attempt has happened.
  template <class F>
  auto with_room(F&& attempt) -> decltype(attempt()) {
    auto done = attempt();
    bool is_full = !done && (done.error().code == ENOSPC || done.error().code == EDQUOT);
    return is_full && upper_->give_back() ? attempt() : done;
  }
  Result<Node> setattr_once(Ino ino, const SetAttr& changes, const Caller& caller);
  Result<std::size_t> write_once(Ino ino, std::uint64_t offset, std::span<const std::byte> data,
                                 WriteFlags flags, const Caller& caller);
  Result<void> fallocate_once(Ino ino, int mode, std::uint64_t offset, std::uint64_t length,
                              const Caller& caller);
  Result<std::size_t> copy_once(Ino in, std::uint64_t in_offset, Ino out, std::uint64_t out_offset,
                                std::uint64_t length, const Caller& caller);
  // Applies, and closes the data files of what was erased.
  Result<void> apply(const tree::ChangeSet& set);
  // Some lookup of it is known, or, after a takeover, the kernel says so.
  bool is_held(Ino ino) const;
  // False where the upper refuses: it is tried once more later.
  bool erase_if_unused(Ino ino);
  // With the lock of `ino` held, after its name was removed: a forget() that came between the choice to keep
  // the node and the change saw it with a name still, and left it.
  bool erase_if_forgotten(Ino ino);
  // Requires: the gate is passed, no lock is held.
  void erase_refused();

  Result<Entry> create(Ino dir, const NewNode& what, const Caller& caller);
  Result<void> inherit(tree::ChangeSet& set, Ino dir, const Node& parent, Ino ino, Node& node,
                       const Caller& caller) const;
  Result<void> remove(Ino dir, std::string_view name, NodeKind kind, const Caller& caller);
  Result<bool> is_below(Ino dir, Ino above) const;
  Result<void> check_rename(const RenamePlan& plan) const;
  Result<void> apply_rename(RenamePlan& plan, const Caller& caller);

  // What a change of bytes does besides: times, set-id bits, capabilities.
  // `killer`: who changes it without CAP_FSETID, so that set-id bits go; null: they stay.
  Result<void> touch_content(tree::ChangeSet& set, Ino ino, Node& node, const Caller* killer) const;
  Result<void> drop_capability(tree::ChangeSet& set, Ino ino) const;
  Result<void> resize(tree::ChangeSet& set, Ino ino, Node& node, std::uint64_t size) const;
  Result<void> chown_neither(tree::ChangeSet& set, Ino ino, Node& node, const Caller& caller) const;
  Result<void> change_mode(tree::ChangeSet& set, Ino ino, Node& node, std::uint16_t mode) const;
  Result<void> zero_locked(tree::ChangeSet& set, Ino ino, Node& node, std::uint64_t offset,
                           std::uint64_t length) const;
  Result<void> allocate_locked(Ino ino, Node& node, std::uint64_t offset, std::uint64_t length) const;
  Result<void> extend_locked(Ino ino, Node& node, std::uint64_t size) const;
  Result<bool> clone_object(const Node& from, Ino out, Node to, const Caller& caller);
  Result<std::size_t> copy_pieces(std::span<const ReadPiece> pieces, Ino out, Node to, std::uint64_t offset,
                                  const Caller& caller);
  Result<void> set_access_acl(tree::ChangeSet& set, Ino ino, Node& node, std::string_view value) const;

  std::shared_ptr<const tree::TreeSource> lower_;
  std::shared_ptr<const tree::BlobSource> blobs_;
  std::shared_ptr<tree::UpperLayer> upper_;  // null: read-only
  UnionOptions options_;
  tree::OverTree view_;
  DescriptorCache descriptors_;
  Content content_;
  LookupCounts counts_;
  std::function<bool(Ino)> held_by_kernel_;  // set before the first request, if at all

  FreezeGate gate_;
  std::mutex topology_;
  mutable InodeLocks locks_;

  std::mutex deferred_mutex_;
  std::vector<Ino> deferred_;  // to be erased at thaw(); guarded by deferred_mutex_
  std::mutex refused_mutex_;
  std::vector<Ino> refused_;  // to be erased once more, as the upper refused; guarded by refused_mutex_
};

}  // namespace layerfs::unionfs
