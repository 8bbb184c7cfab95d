// SPDX-License-Identifier: Apache-2.0
// ChangedPaths: from the inodes that an upper changed to the directories that must be looked into, so that a
// walk from the root reaches every change and nothing else. One thread.
//
// (1) An inode is `changed` where an archive would show it (differs_from_below() in changed_paths.cc) or
//     where it is not in the tree at all; a directory is `on_way` where it, or one below it in what upper and
//     tree show, has a change.
// (2) A tree knows one directory of each of its files (Node::parent); where that does not do (several names,
//     or that name gone), the tree is walked once.
#pragma once

#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "fs/base/result.h"
#include "fs/tree/over_tree.h"

namespace layerfs::image {

class ChangedPaths {
 public:
  /// Reads the whole of the upper's list of changes. Requires: there is an upper, and it does not change.
  static Result<ChangedPaths> find(const tree::OverTree& view);

  bool changed(tree::Ino ino) const { return changed_.contains(ino); }
  bool on_way(tree::Ino dir) const { return on_way_.contains(dir); }
  /// Makes inodes of the tree count as changed, and their names reachable: all names of an inode with several
  /// are wanted where one is.
  Result<void> add_all_names(const std::vector<tree::Ino>& inos);

 private:
  explicit ChangedPaths(const tree::OverTree& view) : view_(&view) {}
  Result<void> mark_way(tree::Ino dir);
  Result<void> mark_names(const std::vector<tree::Ino>& files);
  Result<void> walk_below(const std::unordered_set<tree::Ino>& wanted);

  const tree::OverTree* view_;
  std::unordered_set<tree::Ino> changed_;
  std::unordered_set<tree::Ino> on_way_;
};

}  // namespace layerfs::image
