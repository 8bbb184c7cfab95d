// SPDX-License-Identifier: Apache-2.0
// OverTree: what a tree and an upper over it show together: the one place that knows which of the two counts.
// Reads only; no locks of its own; any thread.
//
// (1) The upper's node, entry, tombstone or xattr stands before the tree's (upper_view.h).
// (2) An inode that was born in the upper has nothing in the tree: the tree is not asked.
// (3) A listing merges two ordered sequences and keeps a batch of the upper's, never the directory.
// (4) It is a TreeSource as long as the upper does not change. Over one that does, each call sees the upper
//     as it is during the call; who needs more than one call to agree holds changes off.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/tree/tree_source.h"
#include "fs/tree/upper_view.h"

namespace layerfs::tree {

class OverTree final : public TreeSource {
 public:
  /// `above` may be null. Both must outlive this.
  OverTree(const TreeSource& below, const UpperView* above) : below_(below), above_(above) {}

  const TreeSource& below() const { return below_; }
  const UpperView* above() const { return above_; }

  Result<std::optional<Node>> find_node(Ino ino) const override;
  /// Errors: kCorrupt where an entry's inode is in neither.
  Result<std::optional<Entry>> find_entry(Ino dir, std::string_view name) const override;
  Result<void> list_entries(Ino dir, DirCookie after, EntryVisitor visit) const override;
  Result<std::optional<std::string>> find_xattr(Ino ino, std::string_view name) const override;
  Result<void> list_xattrs(Ino ino, XattrVisitor visit) const override;
  Result<std::string> get_inline(Ino ino) const override;
  /// Costs what changed.
  Ino max_ino() const override;

  /// Errors: ENOENT.
  Result<Node> get_node(Ino ino) const;
  Result<bool> is_empty(Ino dir) const;
  /// In bytewise order.
  Result<std::vector<std::string>> xattr_names(Ino ino) const;
  /// What the tree alone has there: what a removal must hide.
  Result<std::optional<Ino>> find_entry_below(Ino dir, std::string_view name) const;
  Result<bool> has_xattr_below(Ino ino, std::string_view name) const;

 private:
  static bool may_be_below(Ino ino) { return to_number(ino) < kFirstUpperIno; }

  const TreeSource& below_;
  const UpperView* above_;
};

}  // namespace layerfs::tree
