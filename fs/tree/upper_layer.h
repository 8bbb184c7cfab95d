// SPDX-License-Identifier: Apache-2.0
// UpperLayer: what has changed over a tree, keyed by inode. Implemented by upper::DeltaUpper (durable) and
// upper::MemoryUpper (tests). Contract suite: tests/contract/upper_layer_contract.h.
//
// (1) A ChangeSet is atomic: after a crash all of it is there or none. apply() returns once it is safe from
//     the death of this process (the redo log); sync() once it is safe from a power failure.
// (2) The caller (the union) orders changes to one inode or directory; the upper adds no rule of its own.
//     Reads may come from many threads at once, also during apply().
// (3) A data file exists from create_data() to the EraseNode of its inode, a place in a shared one from
//     create_shared() to that or to the PutNode that says kData. Their bytes are not part of the redo log:
//     write data first, then apply() the size and extents that name it.
#pragma once

#include <sys/statvfs.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "fs/base/fd.h"
#include "fs/base/result.h"
#include "fs/tree/node.h"
#include "fs/tree/upper_view.h"

namespace layerfs::tree {

struct PutNode {
  Ino ino;
  Node node;
};
/// Forgets the node, its xattrs, inline bytes, extents, data file and place in a shared one.
struct EraseNode {
  Ino ino;
};
struct PutEntry {
  Ino dir;
  std::string name;
  Ino ino;
  NodeKind kind;
};
/// Hides the tree's entry of that name.
struct PutTombstone {
  Ino dir;
  std::string name;
};
/// Takes the upper's entry or tombstone of that name away: the tree's entry, if it has one, is seen again.
struct EraseEntry {
  Ino dir;
  std::string name;
};
struct PutXattr {
  Ino ino;
  std::string name;
  std::string value;
};
struct PutXattrTombstone {
  Ino ino;
  std::string name;
};
struct EraseXattr {
  Ino ino;
  std::string name;
};
/// The bytes of a kInline content: a symlink's target.
struct PutInline {
  Ino ino;
  std::string bytes;
};
/// [offset, offset+length) of a kData file over an object now comes from the data file.
struct AddExtent {
  Ino ino;
  std::uint64_t offset;
  std::uint64_t length;
};
/// Drops what lies at or beyond `size` from the extents.
struct TrimExtents {
  Ino ino;
  std::uint64_t size;
};
using Change = std::variant<PutNode, EraseNode, PutEntry, PutTombstone, EraseEntry, PutXattr,
                            PutXattrTombstone, EraseXattr, PutInline, AddExtent, TrimExtents>;

/// [offset, offset+length) of a file's bytes, as they are in its data file.
struct WrittenRange {
  Ino ino;
  std::uint64_t offset;
  std::uint64_t length;
};

struct ChangeSet {
  std::vector<Change> changes;
  /// FUSE's number of the request that asked for this change. After the death of a server the kernel sends
  /// requests again that it has no answer to, and by this number the next server sees that it was made. 0: no
  /// request asked for it.
  std::uint64_t request = 0;
  /// What the caller did to data files for this change before it calls apply(): it wrote this one range, or,
  /// where the length is 0, nothing. Nullopt: it may have done anything else, for instance copied or cut a
  /// file. The upper may then save the range instead of the whole file. What the caller does to the files
  /// after apply() belongs to a later change.
  std::optional<WrittenRange> written;
};

enum class FsyncKind : std::uint8_t { kAll, kDataOnly };

class UpperLayer : public UpperView {
 public:
  /// Every inode whose node has nlink 0: unlinked but perhaps still open when the upper was last used.
  virtual std::vector<Ino> orphans() const = 0;

  /// Makes the change (invariant 1). Errors: ENOSPC, EDQUOT, EIO; then nothing of it happened.
  virtual Result<void> apply(const ChangeSet& change) = 0;
  /// True where a ChangeSet of this request number was applied since the last clean close.
  virtual bool was_applied(std::uint64_t request) const = 0;
  /// A fresh inode number, never given out before in this upper.
  virtual Ino allocate_ino() = 0;

  /// The data file, created empty where it is not there yet. Errors: ENOSPC, EDQUOT, EMFILE, EIO.
  virtual Result<std::shared_ptr<const Fd>> create_data(Ino ino) = 0;
  /// kSharedLimit bytes of zeros in a shared data file, for an inode whose node is not kShared: what an
  /// earlier call gave it is lost. Errors: ENOSPC, EDQUOT, EMFILE, EIO.
  virtual Result<DataPlace> create_shared(Ino ino) = 0;

  /// fsync(2) of one file or directory: its data and every change applied before the call. kDataOnly,
  /// fdatasync(2): at least the data and what it takes to read them, so that times may be left behind.
  virtual Result<void> sync_node(Ino ino, FsyncKind kind) = 0;
  /// What unmount and syncfs(2) wait for: every data file and every change applied before the call.
  virtual Result<void> sync() = 0;
  /// Gives back now what erased files still take on the disk: what they had goes only when their erasure
  /// can't be lost any more (upper: a flush). False: there was nothing to give back, or it could not be done.
  virtual bool give_back() { return false; }
  /// statvfs(3) of the file system that holds the upper.
  virtual Result<struct statvfs> stat_fs() const = 0;
  /// True where nothing may be changed (EROFS).
  virtual bool read_only() const = 0;
};

}  // namespace layerfs::tree
