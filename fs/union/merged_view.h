// SPDX-License-Identifier: Apache-2.0
// MergedView: what a tree and the upper over it show together. Reads only; any thread; no locks of its own.
//
// (1) The upper's node, entry, tombstone or xattr stands before the tree's (upper_layer.h, invariants 4 and
//     5).
// (2) Directories born in the upper have nothing in the tree: the tree is not asked.
// (3) A listing merges two ordered sequences and keeps a batch of the upper's, never the directory.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/function_ref.h"
#include "fs/base/result.h"
#include "fs/tree/tree_source.h"
#include "fs/tree/upper_layer.h"
#include "fs/union/union_fs.h"

namespace layerfs::unionfs {

class MergedView {
 public:
  /// `upper` may be null. Both must outlive the view.
  MergedView(const tree::TreeSource& lower, const tree::UpperLayer* upper) : lower_(lower), upper_(upper) {}

  Result<std::optional<Node>> find_node(Ino ino) const;
  /// Errors: ENOENT.
  Result<Node> get_node(Ino ino) const;
  Result<std::optional<Entry>> find_entry(Ino dir, std::string_view name) const;
  /// What the tree alone has there: what a removal must hide.
  Result<std::optional<Ino>> find_lower_entry(Ino dir, std::string_view name) const;
  /// Names after `after` in directory order, without "." and "..".
  Result<void> list_entries(Ino dir, DirCookie after, FunctionRef<bool(const DirEntryView&)> visit) const;
  Result<bool> is_empty(Ino dir) const;

  Result<std::optional<std::string>> find_xattr(Ino ino, std::string_view name) const;
  Result<bool> lower_has_xattr(Ino ino, std::string_view name) const;
  /// In bytewise order.
  Result<std::vector<std::string>> list_xattrs(Ino ino) const;
  Result<std::string> get_inline(Ino ino) const;

 private:
  static bool may_be_lower(Ino ino) { return to_number(ino) < tree::kFirstUpperIno; }

  const tree::TreeSource& lower_;
  const tree::UpperLayer* upper_;
};

}  // namespace layerfs::unionfs
