// SPDX-License-Identifier: Apache-2.0
#include "fs/image/changed_paths.h"

#include <algorithm>
#include <utility>

namespace layerfs::image {

Result<ChangedPaths> ChangedPaths::find(const MergedView& view) {
  ChangedPaths paths(view);
  std::vector<std::pair<tree::Ino, tree::ChangedParts>> all;
  view.upper().for_each_changed([&](tree::Ino ino, const tree::ChangedParts& parts) {
    all.emplace_back(ino, parts);
    return true;
  });
  std::vector<tree::Ino> files;
  for (const auto& [ino, parts] : all) {
    if (parts.entries) LAYERFS_TRY(paths.mark_way(ino));
    LAYERFS_ASSIGN(auto lower_node, view.lower().find_node(ino));
    if (!lower_node) {
      // Born in the upper: it is reached by the upper's own entries, whose directories are marked.
      paths.changed_.insert(ino);
      continue;
    }
    if (!parts.node && !parts.xattrs) continue;
    LAYERFS_ASSIGN(bool differs, view.differs_from_lower(ino, *lower_node));
    if (!differs) continue;
    paths.changed_.insert(ino);
    if (lower_node->kind == tree::NodeKind::kDirectory) {
      LAYERFS_TRY(paths.mark_way(ino));
    } else {
      files.push_back(ino);
    }
  }
  LAYERFS_TRY(paths.mark_names(files));
  return paths;
}

/// Marks a directory and all that hold it. One that was removed leads nowhere: the walk from the root never
/// asks.
Result<void> ChangedPaths::mark_way(tree::Ino dir) {
  while (on_way_.insert(dir).second && dir != tree::kRootIno) {
    LAYERFS_ASSIGN(auto node, view_->find_node(dir));
    if (!node || node->kind != tree::NodeKind::kDirectory) return {};
    dir = node->parent;
  }
  return {};
}

Result<void> ChangedPaths::add_all_names(const std::vector<tree::Ino>& inos) {
  changed_.insert(inos.begin(), inos.end());
  return mark_names(inos);
}

/// Marks the directories where the tree has names of files.
Result<void> ChangedPaths::mark_names(const std::vector<tree::Ino>& files) {
  std::unordered_set<tree::Ino> wanted;
  std::unordered_map<tree::Ino, std::unordered_set<tree::Ino>> by_parent;
  for (tree::Ino ino : files) {
    LAYERFS_ASSIGN(auto node, view_->lower().find_node(ino));
    if (!node) continue;
    if (node->nlink == 1 && node->parent != tree::Ino{0}) {
      by_parent[node->parent].insert(ino);
    } else {
      wanted.insert(ino);
    }
  }
  for (auto& [parent, inos] : by_parent) {
    bool found = false;
    LAYERFS_TRY(view_->lower().list_entries(parent, tree::kDirStart, [&](const tree::EntryView& entry) {
      found = inos.erase(entry.ino) != 0 || found;
      return !inos.empty();
    }));
    if (found) LAYERFS_TRY(mark_way(parent));
    wanted.insert(inos.begin(), inos.end());  // the name that the tree was built with is gone
  }
  return wanted.empty() ? Result<void>() : walk_lower(wanted);
}

Result<void> ChangedPaths::walk_lower(const std::unordered_set<tree::Ino>& wanted) {
  std::vector<tree::Ino> stack = {tree::kRootIno};
  while (!stack.empty()) {
    tree::Ino dir = stack.back();
    stack.pop_back();
    bool found = false;
    LAYERFS_TRY(view_->lower().list_entries(dir, tree::kDirStart, [&](const tree::EntryView& entry) {
      if (entry.node.kind == tree::NodeKind::kDirectory) {
        stack.push_back(entry.ino);
      } else if (wanted.contains(entry.ino)) {
        found = true;
      }
      return true;
    }));
    if (found) LAYERFS_TRY(mark_way(dir));
  }
  return {};
}

}  // namespace layerfs::image
