// SPDX-License-Identifier: Apache-2.0
#include "fs/image/merged_view.h"

#include <algorithm>
#include <map>
#include <unordered_map>
#include <utility>

namespace layerfs::image {

namespace {

void sort_by_name(std::vector<Child>& children) {
  std::sort(children.begin(), children.end(), [](const Child& a, const Child& b) { return a.name < b.name; });
}

}  // namespace

Result<std::optional<tree::Node>> MergedView::find_node(tree::Ino ino) const {
  if (auto node = upper_.find_node(ino)) return node;
  return lower_.find_node(ino);
}

Result<std::vector<Child>> MergedView::lower_children(tree::Ino dir) const {
  std::vector<Child> children;
  LAYERFS_TRY(lower_.list_entries(dir, tree::kDirStart, [&](const tree::EntryView& entry) {
    children.push_back({std::string(entry.name), entry.ino, entry.node});
    return true;
  }));
  sort_by_name(children);
  return children;
}

Result<std::vector<Child>> MergedView::children(tree::Ino dir) const {
  std::unordered_map<std::string, tree::UpperEntry> changes;
  upper_.list_entries(dir, tree::kDirStart, [&](const tree::UpperEntryView& entry) {
    changes.emplace(entry.name, tree::UpperEntry{entry.state, entry.ino, entry.kind});
    return true;
  });
  LAYERFS_ASSIGN(std::vector<Child> children, lower_children(dir));
  std::erase_if(children, [&](const Child& child) { return changes.contains(child.name); });
  for (auto& child : children)
    if (auto node = upper_.find_node(child.ino)) child.node = *node;
  for (const auto& [name, entry] : changes) {
    if (entry.state != tree::EntryState::kPresent) continue;
    LAYERFS_ASSIGN(auto node, find_node(entry.ino));
    if (!node) return corrupt_error("upper entry", name, "its inode is not there");
    children.push_back({name, entry.ino, *node});
  }
  sort_by_name(children);
  return children;
}

Result<tree::XattrList> MergedView::xattrs(tree::Ino ino) const {
  std::map<std::string, std::string, std::less<>> all;
  LAYERFS_TRY(lower_.list_xattrs(ino, [&](std::string_view name, std::string_view value) {
    all.emplace(name, value);
    return true;
  }));
  upper_.list_xattrs(ino, [&](std::string_view name, tree::XattrState state, std::string_view value) {
    if (state == tree::XattrState::kPresent) {
      all.insert_or_assign(std::string(name), std::string(value));
    } else if (auto at = all.find(name); at != all.end()) {
      all.erase(at);
    }
    return true;
  });
  return tree::XattrList(all.begin(), all.end());
}

Result<std::string> MergedView::symlink_target(tree::Ino ino) const {
  auto target = upper_.get_inline(ino);
  // A symlink of the tree whose owner or time changed has its text in the tree still.
  if (!target && target.error().code == ENOENT) return lower_.get_inline(ino);
  return target;
}

Result<FileContent> MergedView::content(tree::Ino ino) const {
  if (auto node = upper_.find_node(ino)) return FileContent::of_upper(ino, *node, upper_, lower_, blobs_);
  LAYERFS_ASSIGN(auto node, lower_.find_node(ino));
  if (!node) return corrupt_error("read", "content", "its inode is not there");
  return FileContent::of_tree(ino, *node, lower_, blobs_);
}

bool MergedView::same_content(tree::Ino ino, const tree::Node& above, const tree::Node& below) const {
  if (above.kind != tree::NodeKind::kRegular) return true;  // a symlink's text never changes
  if (above.size != below.size) return false;
  if (above.content == tree::ContentKind::kData)
    return below.content == tree::ContentKind::kObject && above.object == below.object &&
           above.base_size >= above.size && upper_.extents(ino).empty();
  if (above.content != below.content) return false;
  if (above.content == tree::ContentKind::kObject) return above.object == below.object;
  if (above.content != tree::ContentKind::kInline) return true;
  auto text = upper_.get_inline(ino);
  auto lower_text = lower_.get_inline(ino);
  return !text || (lower_text && *text == *lower_text);
}

Result<bool> MergedView::differs_from_lower(tree::Ino ino, const tree::Node& lower_node) const {
  if (auto node = upper_.find_node(ino)) {
    const tree::Node& a = *node;
    const tree::Node& b = lower_node;
    if (a.kind != b.kind || a.mode != b.mode || a.uid != b.uid || a.gid != b.gid || a.mtime != b.mtime ||
        a.rdev != b.rdev || !same_content(ino, a, b))
      return true;
  }
  bool has_changes = false;
  upper_.list_xattrs(ino, [&](std::string_view, tree::XattrState, std::string_view) {
    has_changes = true;
    return false;
  });
  if (!has_changes) return false;
  LAYERFS_ASSIGN(tree::XattrList merged, xattrs(ino));
  tree::XattrList below;
  LAYERFS_TRY(lower_.list_xattrs(ino, [&](std::string_view name, std::string_view value) {
    below.emplace_back(name, value);
    return true;
  }));
  return merged != below;
}

}  // namespace layerfs::image
