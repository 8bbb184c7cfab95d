// SPDX-License-Identifier: Apache-2.0
// UnionFs: a tree with an upper over it, as a POSIX file system of inode numbers. Pure: it knows no FUSE, no
// LMDB; file bytes go through the descriptors that BlobSource and UpperLayer hand out.
//
// (1) Every call is safe from any thread. LOCKS.md has the order.
// (2) A changing call is one ChangeSet: after a crash it happened or it did not.
// (3) An inode number means the same file from import to commit: copy-up, rename and link keep it.
// (4) Permission checks are the kernel's (default_permissions); what the kernel leaves to the file system
//     (set-id clearing, default ACLs and umask, setgid directories, sticky is the kernel's) is done here.
// (5) A node with nlink 0 lives until its lookup count is 0. After a takeover the counts are unknown from
//     below: then it lives until the kernel says that it does not hold it (LOCKS.md, "Who forgets an inode").
#pragma once

#include <sys/statvfs.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/function_ref.h"
#include "fs/base/result.h"
#include "fs/tree/blob_source.h"
#include "fs/tree/tree_source.h"
#include "fs/tree/upper_layer.h"

namespace layerfs::unionfs {

using tree::DirCookie;
using tree::Entry;
using tree::EntryView;
using tree::Gid;
using tree::Ino;
using tree::Node;
using tree::NodeKind;
using tree::Time;
using tree::Uid;

/// What a changing call does while the file system is frozen.
enum class WhenFrozen : std::uint8_t {
  kWait,  ///< waits for thaw()
  kFail,  ///< fails with ERESTART before it has done anything, so that it may be made again later
};

/// Who asks. Ids are those of the tree (the adapter has mapped them).
struct Caller {
  Uid uid{0};
  Gid gid{0};
  mode_t umask = 0;           ///< applied here, unless the directory has a default ACL (acl(5))
  std::uint64_t request = 0;  ///< the request's number, for ChangeSet::request
  /// Of which thread the request is; 0: not known.
  std::uint32_t thread = 0;
  /// Whether that thread has `gid` among its supplementary groups. Asked seldom: for a set-group-ID bit
  /// without group execution. Null: it has none.
  bool (*has_group)(const Caller& caller, Gid gid) = nullptr;
  /// Without CAP_FSETID: fallocate and copy_file_range, which have no flag for it, take set-id bits away.
  bool kills_set_id = false;
  /// The request came before: a server that died may have done it already.
  bool resent = false;
  WhenFrozen when_frozen = WhenFrozen::kWait;
};

/// Fields to set; nullopt leaves one alone. kNow times are taken from the clock once for the call.
struct SetAttr {
  std::optional<std::uint16_t> mode = std::nullopt;
  std::optional<Uid> uid = std::nullopt;
  std::optional<Gid> gid = std::nullopt;
  std::optional<std::uint64_t> size = std::nullopt;
  std::optional<Time> atime = std::nullopt;
  std::optional<Time> mtime = std::nullopt;
  std::optional<Time> ctime = std::nullopt;
  bool atime_now = false;
  bool mtime_now = false;
  bool kill_suid_sgid = false;  ///< FATTR_KILL_SUIDGID (with a size), HANDLE_KILLPRIV_V2
};

struct WriteFlags {
  bool kill_suid_sgid = false;  ///< FUSE_WRITE_KILL_SUIDGID
};

enum class SetXattrMode : std::uint8_t { kAny, kCreate, kReplace };
using tree::FsyncKind;

struct UnionOptions {
  bool read_only = false;
  bool is_volatile = false;   ///< fsync answers at once
  bool keep_orphans = false;  ///< the mount outlived its server, inherit_lookups() follows
  /// 0: files up to `whole_copy_limit` are copied up whole, larger ones by range.
  std::uint64_t whole_copy_limit = 64 * 1024;
};

/// Where bytes of a file lie: `size` bytes at `offset` of `file`; without a
/// file they are `bytes`, or zeros where that is empty.
struct ReadPiece {
  std::shared_ptr<const Fd> file;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  std::string bytes;
  bool may_end_early = false;  ///< where `file` ends before the piece does, the rest is zeros
};

class UnionFs {
 public:
  /// `upper` may be null: then the tree is read-only.
  static Result<std::unique_ptr<UnionFs>> make(std::shared_ptr<const tree::TreeSource> lower,
                                               std::shared_ptr<const tree::BlobSource> blobs,
                                               std::shared_ptr<tree::UpperLayer> upper, UnionOptions options);
  virtual ~UnionFs() = default;

  /// Errors: ENOENT, ENOTDIR, ENAMETOOLONG. Counts one lookup on success (also create, mkdir, link...: each
  /// call that returns an Entry). "." and ".." are answered too, "." of what is no directory as well.
  virtual Result<Entry> lookup(Ino dir, std::string_view name) = 0;
  /// The mount outlived its server, whose lookups are not known: from now on a node that nobody is known to
  /// hold is asked for by `is_held`, which must not call back. Erases the orphans that are not held.
  /// Requires: keep_orphans, and no other call before or meanwhile.
  virtual void inherit_lookups(std::function<bool(Ino)> is_held) = 0;
  /// Takes `count` lookups back. When none is left of an unlinked node, it is forgotten for good.
  virtual void forget(Ino ino, std::uint64_t count) = 0;
  virtual Result<Node> getattr(Ino ino) = 0;
  /// st_blocks (of 512 bytes) of a node that was answered just now. Costs system calls only for files
  /// that may have holes.
  virtual std::uint64_t blocks(Ino ino, const Node& node) = 0;
  virtual Result<Node> setattr(Ino ino, const SetAttr& changes, const Caller& caller) = 0;
  virtual Result<std::string> readlink(Ino ino) = 0;

  /// Regular files, devices, fifos, sockets. Errors: EEXIST, ENOENT (directory gone), ENOSPC, EROFS...
  virtual Result<Entry> mknod(Ino dir, std::string_view name, mode_t mode, std::uint64_t rdev,
                              const Caller& caller) = 0;
  virtual Result<Entry> mkdir(Ino dir, std::string_view name, mode_t mode, const Caller& caller) = 0;
  virtual Result<Entry> symlink(Ino dir, std::string_view name, std::string_view target,
                                const Caller& caller) = 0;
  /// An unnamed regular file (O_TMPFILE), nlink 0.
  virtual Result<Entry> tmpfile(Ino dir, mode_t mode, const Caller& caller) = 0;
  virtual Result<void> unlink(Ino dir, std::string_view name, const Caller& caller) = 0;
  virtual Result<void> rmdir(Ino dir, std::string_view name, const Caller& caller) = 0;
  /// `flags`: 0, RENAME_NOREPLACE or RENAME_EXCHANGE (rename(2)); RENAME_WHITEOUT is EINVAL.
  virtual Result<void> rename(Ino dir, std::string_view name, Ino new_dir, std::string_view new_name,
                              unsigned flags, const Caller& caller) = 0;
  virtual Result<Entry> link(Ino ino, Ino new_dir, std::string_view new_name, const Caller& caller) = 0;

  /// Fewer bytes than asked for only at the end of the file.
  virtual Result<std::size_t> read(Ino ino, std::uint64_t offset, std::span<std::byte> buffer) = 0;
  virtual Result<std::size_t> write(Ino ino, std::uint64_t offset, std::span<const std::byte> data,
                                    WriteFlags flags, const Caller& caller) = 0;
  /// `mode`: FALLOC_FL_* of fallocate(2). Errors: EOPNOTSUPP for what the upper's file system cannot do.
  virtual Result<void> fallocate(Ino ino, int mode, std::uint64_t offset, std::uint64_t length,
                                 const Caller& caller) = 0;
  /// `whence`: SEEK_DATA or SEEK_HOLE. Errors: ENXIO.
  virtual Result<std::uint64_t> lseek(Ino ino, std::uint64_t offset, int whence) = 0;
  virtual Result<std::size_t> copy_file_range(Ino in, std::uint64_t in_offset, Ino out,
                                              std::uint64_t out_offset, std::uint64_t length,
                                              const Caller& caller) = 0;
  virtual Result<void> fsync(Ino ino, FsyncKind kind) = 0;
  virtual Result<void> fsyncdir(Ino ino) = 0;
  /// Everything, as syncfs(2) or unmount ask for.
  virtual Result<void> sync() = 0;

  /// Entries after `after` in directory order, "." and ".." first. False stops. Errors: ENOTDIR, ENOENT.
  /// The visitor must not call back, but for remember(), blocks() and getattr().
  virtual Result<void> readdir(Ino dir, DirCookie after, FunctionRef<bool(const EntryView&)> visit) = 0;
  /// Counts a lookup: what a READDIRPLUS reply that names `ino` owes (not for "." and "..").
  virtual void remember(Ino ino) = 0;

  /// Errors: ENODATA, EPERM for names that only the engine may see.
  virtual Result<std::string> getxattr(Ino ino, std::string_view name) = 0;
  /// Names, each with its NUL, trusted.* too.
  virtual Result<std::string> listxattr(Ino ino) = 0;
  /// Sets; system.posix_acl_access also sets the mode bits (acl(5)). Errors: EEXIST, ENODATA, E2BIG, ERANGE.
  virtual Result<void> setxattr(Ino ino, std::string_view name, std::string_view value, SetXattrMode mode,
                                const Caller& caller) = 0;
  virtual Result<void> removexattr(Ino ino, std::string_view name, const Caller& caller) = 0;

  /// statvfs of the upper's file system; f_namemax 255.
  virtual Result<struct statvfs> statfs() = 0;

  /// Waits for changing calls under way and holds new ones back until thaw(); everything is synced. For a
  /// commit of a live mount. Errors: EBUSY where it is frozen already.
  virtual Result<void> freeze() = 0;
  virtual void thaw() = 0;
};

}  // namespace layerfs::unionfs
