// SPDX-License-Identifier: Apache-2.0
// UpperView: what an upper has changed over a tree, to be read. Any thread. Who reads it with the tree below
// takes OverTree; who changes it takes UpperLayer.
//
// (1) An entry hides the tree's entry of that name; a tombstone hides it and shows nothing.
// (2) A node replaces the tree's node of that inode entirely (attributes and content); xattrs are replaced
//     one by one, a tombstone hiding the tree's value.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/fd.h"
#include "fs/base/function_ref.h"
#include "fs/base/result.h"
#include "fs/tree/node.h"

namespace layerfs::tree {

enum class EntryState : std::uint8_t { kAbsent, kPresent, kTombstone };
struct UpperEntry {
  EntryState state = EntryState::kAbsent;
  Ino ino{0};
  NodeKind kind = NodeKind::kRegular;
};
struct UpperEntryView {
  DirCookie cookie;
  std::string_view name;
  EntryState state;  // kPresent or kTombstone
  Ino ino;
  NodeKind kind;
};
struct Extent {
  std::uint64_t offset;
  std::uint64_t length;
  bool operator==(const Extent&) const = default;
};
enum class XattrState : std::uint8_t { kAbsent, kPresent, kTombstone };

/// Where a file's bytes are kept: byte 0 at `offset` of `file`, which has `limit` bytes for them.
struct DataPlace {
  std::shared_ptr<const Fd> file;
  std::uint64_t offset = 0;
  std::uint64_t limit = UINT64_MAX;
  int fd() const { return file->get(); }
  /// Others' bytes are in the file too.
  bool is_shared() const { return limit != UINT64_MAX; }
};

/// What an upper has of one inode: a node; entries or tombstones, as a directory; xattrs or xattr tombstones.
struct ChangedParts {
  bool node = false;
  bool entries = false;
  bool xattrs = false;
};

class UpperView {
 public:
  virtual ~UpperView() = default;

  virtual std::optional<Node> find_node(Ino ino) const = 0;
  virtual UpperEntry find_entry(Ino dir, std::string_view name) const = 0;
  /// Entries and tombstones with a cookie greater than `after`, in directory order. False stops. The
  /// visitor must not call back into the upper.
  virtual void list_entries(Ino dir, DirCookie after,
                            FunctionRef<bool(const UpperEntryView&)> visit) const = 0;
  /// `value` is set where the state is kPresent.
  virtual XattrState find_xattr(Ino ino, std::string_view name, std::string& value) const = 0;
  /// In bytewise order of the names. The visitor must not call back into the upper.
  virtual void list_xattrs(
      Ino ino,
      FunctionRef<bool(std::string_view name, XattrState state, std::string_view value)> visit) const = 0;
  /// Errors: ENOENT where the upper has no inline bytes for it.
  virtual Result<std::string> get_inline(Ino ino) const = 0;
  /// Sorted, disjoint, not touching. Empty for a file without a base object.
  virtual std::vector<Extent> extents(Ino ino) const = 0;
  /// Those of extents() that overlap [begin, end), none of them cut. Takes as long as there are such, however
  /// many extents the file has.
  virtual std::vector<Extent> extents_within(Ino ino, std::uint64_t begin, std::uint64_t end) const {
    std::vector<Extent> found = extents(ino);
    std::erase_if(found,
                  [&](const Extent& one) { return one.offset >= end || one.offset + one.length <= begin; });
    return found;
  }
  /// Every inode of which the upper has something (a node, an entry or tombstone in it as a directory, an
  /// xattr or its tombstone), each once, in ascending order; orphans too, and what is left of a removed
  /// directory. False stops. The visitor must not call back into the upper. For commit: costs what changed.
  virtual void for_each_changed(FunctionRef<bool(Ino ino, const ChangedParts& parts)> visit) const = 0;

  /// The data file, open for reading and writing. Errors: ENOENT, EMFILE, EIO.
  virtual Result<std::shared_ptr<const Fd>> open_data(Ino ino) const = 0;
  /// The place, open for reading and writing. Requires: the node is kShared. Errors: ENOENT, EMFILE, EIO.
  virtual Result<DataPlace> open_shared(Ino ino) const = 0;
};

}  // namespace layerfs::tree
