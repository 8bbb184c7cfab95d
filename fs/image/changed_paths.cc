// SPDX-License-Identifier: Apache-2.0
#include "fs/image/changed_paths.h"

#include <algorithm>
#include <utility>

#include "fs/image/tree_listing.h"

namespace layerfs::image {

namespace {

bool has_same_content(const tree::OverTree& view, tree::Ino ino, const tree::Node& above,
                      const tree::Node& below) {
  if (above.kind != tree::NodeKind::kRegular) return true;  // a symlink's text never changes
  if (above.size != below.size) return false;
  if (above.content == tree::ContentKind::kData)
    return below.content == tree::ContentKind::kObject && above.object == below.object &&
           above.base_size >= above.size && view.above()->extents(ino).empty();
  if (above.content != below.content) return false;
  if (above.content == tree::ContentKind::kObject) return above.object == below.object;
  if (above.content != tree::ContentKind::kInline) return true;
  auto text = view.above()->get_inline(ino);
  auto text_below = view.below().get_inline(ino);
  return !text || (text_below && *text == *text_below);
}

/// True where an archive would show a difference between the inode in the tree below and over it: not for its
/// times but mtime, nor for its link count. Requires: both have it.
Result<bool> differs_from_below(const tree::OverTree& view, tree::Ino ino, const tree::Node& node_below) {
  if (auto node = view.above()->find_node(ino)) {
    const tree::Node& a = *node;
    const tree::Node& b = node_below;
    if (a.kind != b.kind || a.mode != b.mode || a.uid != b.uid || a.gid != b.gid || a.mtime != b.mtime ||
        a.rdev != b.rdev || !has_same_content(view, ino, a, b))
      return true;
  }
  bool has_changes = false;
  view.above()->list_xattrs(ino, [&](std::string_view, tree::XattrState, std::string_view) {
    has_changes = true;
    return false;
  });
  if (!has_changes) return false;
  LAYERFS_ASSIGN(const tree::XattrList over, xattrs_of(view, ino));
  LAYERFS_ASSIGN(const tree::XattrList below, xattrs_of(view.below(), ino));
  return over != below;
}

}  // namespace

Result<ChangedPaths> ChangedPaths::find(const tree::OverTree& view) {
  ChangedPaths paths(view);
  std::vector<std::pair<tree::Ino, tree::ChangedParts>> all;
  view.above()->for_each_changed([&](tree::Ino ino, const tree::ChangedParts& parts) {
    all.emplace_back(ino, parts);
    return true;
  });
  std::vector<tree::Ino> files;
  for (const auto& [ino, parts] : all) {
    if (parts.entries) LAYERFS_TRY(paths.mark_way(ino));
    LAYERFS_ASSIGN(auto node_below, view.below().find_node(ino));
    if (!node_below) {
      // Born in the upper: it is reached by the upper's own entries, whose directories are marked.
      paths.changed_.insert(ino);
      continue;
    }
    if (!parts.node && !parts.xattrs) continue;
    LAYERFS_ASSIGN(bool differs, differs_from_below(view, ino, *node_below));
    if (!differs) continue;
    paths.changed_.insert(ino);
    if (node_below->kind == tree::NodeKind::kDirectory) {
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
    LAYERFS_ASSIGN(auto node, view_->below().find_node(ino));
    if (!node) continue;
    if (node->nlink == 1 && node->parent != tree::Ino{0}) {
      by_parent[node->parent].insert(ino);
    } else {
      wanted.insert(ino);
    }
  }
  for (auto& [parent, inos] : by_parent) {
    bool found = false;
    LAYERFS_TRY(view_->below().list_entries(parent, tree::kDirStart, [&](const tree::EntryView& entry) {
      found = inos.erase(entry.ino) != 0 || found;
      return !inos.empty();
    }));
    if (found) LAYERFS_TRY(mark_way(parent));
    wanted.insert(inos.begin(), inos.end());  // the name that the tree was built with is gone
  }
  return wanted.empty() ? Result<void>() : walk_below(wanted);
}

Result<void> ChangedPaths::walk_below(const std::unordered_set<tree::Ino>& wanted) {
  std::vector<tree::Ino> stack = {tree::kRootIno};
  while (!stack.empty()) {
    tree::Ino dir = stack.back();
    stack.pop_back();
    bool found = false;
    LAYERFS_TRY(view_->below().list_entries(dir, tree::kDirStart, [&](const tree::EntryView& entry) {
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
