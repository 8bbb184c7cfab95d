// SPDX-License-Identifier: Apache-2.0
// TreeSource: an immutable tree of nodes, read by inode number. Implemented by MemoryTree (merging, tests)
// and store::TreeFile (on disk). Contract suite: tests/contract/tree_source_contract.h.
//
// (1) It never changes: every answer may be cached for ever. All methods may be called from many threads.
// (2) Views given to a visitor die when the visitor returns.
// (3) list_entries gives every entry of the directory with a cookie greater than `after`, in directory
//     order (node.h, invariant 3), without "." and "..".
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "fs/base/function_ref.h"
#include "fs/base/result.h"
#include "fs/tree/node.h"

namespace layerfs::tree {

struct EntryView {
  DirCookie cookie;
  std::string_view name;
  Ino ino;
  const Node& node;
};

/// False stops the listing.
using EntryVisitor = FunctionRef<bool(const EntryView&)>;
using XattrVisitor = FunctionRef<bool(std::string_view name, std::string_view value)>;

class TreeSource {
 public:
  virtual ~TreeSource() = default;

  /// nullopt: no such inode in this tree. Errors: kCorrupt, EIO.
  virtual Result<std::optional<Node>> find_node(Ino ino) const = 0;
  /// nullopt: no such name (or no such directory). Errors: kCorrupt, EIO.
  virtual Result<std::optional<Entry>> find_entry(Ino dir, std::string_view name) const = 0;
  virtual Result<void> list_entries(Ino dir, DirCookie after, EntryVisitor visit) const = 0;
  virtual Result<std::optional<std::string>> find_xattr(Ino ino, std::string_view name) const = 0;
  /// In bytewise order of the names.
  virtual Result<void> list_xattrs(Ino ino, XattrVisitor visit) const = 0;
  /// The bytes of a kInline content (symlink targets). Errors: ENOENT where the node has none.
  virtual Result<std::string> get_inline(Ino ino) const = 0;
  /// The greatest inode number in the tree.
  virtual Ino max_ino() const = 0;
};

}  // namespace layerfs::tree
