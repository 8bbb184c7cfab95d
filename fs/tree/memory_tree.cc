// SPDX-License-Identifier: Apache-2.0
#include "fs/tree/memory_tree.h"

#include <algorithm>
#include <vector>

#include "fs/base/check.h"

namespace layerfs::tree {

namespace {

std::pair<DirCookie, std::string> entry_key(std::string_view name) {
  return {name_cookie(name), std::string(name)};
}

void sort_xattrs(XattrList& xattrs) {
  // Of two of one name the later counts, as setxattr(2) twice would have it.
  std::stable_sort(xattrs.begin(), xattrs.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  auto last = std::unique(xattrs.rbegin(), xattrs.rend(),
                          [](const auto& a, const auto& b) { return a.first == b.first; });
  xattrs.erase(xattrs.begin(), last.base());
}

}  // namespace

MemoryTree::MemoryTree() {
  Item root;
  root.node.kind = NodeKind::kDirectory;
  root.node.mode = 0755;
  root.node.nlink = 2;
  root.node.parent = kRootIno;
  nodes_.emplace(kRootIno, std::move(root));
}

Result<MemoryTree> MemoryTree::copy_of(const TreeSource& base) {
  MemoryTree copy;
  copy.nodes_.clear();
  std::vector<std::pair<Ino, Node>> directories;
  LAYERFS_ASSIGN(auto root, base.find_node(kRootIno));
  if (!root) return corrupt_error("copy a tree", "/", "it has no root");

  auto copy_item = [&](Ino ino, const Node& node) -> Result<void> {
    Item item;
    item.node = node;
    if (node.content == ContentKind::kInline) {
      LAYERFS_ASSIGN(item.inline_bytes, base.get_inline(ino));
    }
    LAYERFS_TRY(base.list_xattrs(ino, [&](std::string_view name, std::string_view value) {
      item.xattrs.emplace_back(name, value);
      return true;
    }));
    copy.nodes_.emplace(ino, std::move(item));
    if (node.kind == NodeKind::kDirectory) directories.emplace_back(ino, node);
    return {};
  };

  LAYERFS_TRY(copy_item(kRootIno, *root));
  while (!directories.empty()) {
    Ino dir = directories.back().first;
    directories.pop_back();
    std::vector<std::pair<Ino, Node>> found;
    auto& children = copy.nodes_.at(dir).children;
    LAYERFS_TRY(base.list_entries(dir, kDirStart, [&](const EntryView& entry) {
      children.emplace(std::pair(entry.cookie, std::string(entry.name)), entry.ino);
      if (!copy.nodes_.contains(entry.ino)) found.emplace_back(entry.ino, entry.node);
      return true;
    }));
    for (const auto& [ino, node] : found)
      if (!copy.nodes_.contains(ino)) LAYERFS_TRY(copy_item(ino, node));
  }
  copy.next_ = Ino{to_number(base.max_ino()) + 1};
  return copy;
}

MemoryTree::Item* MemoryTree::item(Ino ino) {
  auto found = nodes_.find(ino);
  return found == nodes_.end() ? nullptr : &found->second;
}

const MemoryTree::Item* MemoryTree::item(Ino ino) const {
  auto found = nodes_.find(ino);
  return found == nodes_.end() ? nullptr : &found->second;
}

Result<std::optional<Node>> MemoryTree::find_node(Ino ino) const {
  const Item* found = item(ino);
  return found ? std::optional(found->node) : std::nullopt;
}

Result<std::optional<Entry>> MemoryTree::find_entry(Ino dir, std::string_view name) const {
  const Item* found = item(dir);
  if (!found) return std::nullopt;
  auto child = found->children.find(entry_key(name));
  if (child == found->children.end()) return std::nullopt;
  return Entry{child->second, item(child->second)->node};
}

Result<void> MemoryTree::list_entries(Ino dir, DirCookie after, EntryVisitor visit) const {
  const Item* found = item(dir);
  if (!found) return {};
  auto child = found->children.lower_bound({DirCookie{to_number(after) + 1}, std::string()});
  for (; child != found->children.end(); ++child) {
    const auto& [cookie, name] = child->first;
    if (!visit(EntryView{cookie, name, child->second, item(child->second)->node})) break;
  }
  return {};
}

Result<std::optional<std::string>> MemoryTree::find_xattr(Ino ino, std::string_view name) const {
  const Item* found = item(ino);
  if (!found) return std::nullopt;
  for (const auto& [key, value] : found->xattrs)
    if (key == name) return value;
  return std::nullopt;
}

Result<void> MemoryTree::list_xattrs(Ino ino, XattrVisitor visit) const {
  const Item* found = item(ino);
  if (!found) return {};
  for (const auto& [name, value] : found->xattrs)
    if (!visit(name, value)) break;
  return {};
}

Result<std::string> MemoryTree::get_inline(Ino ino) const {
  const Item* found = item(ino);
  if (!found || found->node.content != ContentKind::kInline) return errno_error(ENOENT);
  return found->inline_bytes;
}

Ino MemoryTree::max_ino() const { return Ino{to_number(next_) - 1}; }

Ino MemoryTree::add_node(Ino dir, const std::string& name, Node node, std::string inline_bytes,
                         XattrList xattrs) {
  Item* parent = item(dir);
  LAYERFS_CHECK(parent && parent->node.kind == NodeKind::kDirectory);
  Ino ino = next_;
  bool added = parent->children.emplace(entry_key(name), ino).second;
  LAYERFS_CHECK(added);
  next_ = Ino{to_number(next_) + 1};
  bool is_directory = node.kind == NodeKind::kDirectory;
  node.nlink = is_directory ? 2 : 1;
  node.parent = dir;  // of files too: see node.h
  if (is_directory) ++parent->node.nlink;
  sort_xattrs(xattrs);
  nodes_.emplace(ino, Item{node, std::move(inline_bytes), std::move(xattrs), {}});
  return ino;
}

void MemoryTree::add_link(Ino dir, const std::string& name, Ino ino) {
  Item* parent = item(dir);
  Item* target = item(ino);
  LAYERFS_CHECK(parent && parent->node.kind == NodeKind::kDirectory);
  LAYERFS_CHECK(target && target->node.kind != NodeKind::kDirectory);
  bool added = parent->children.emplace(entry_key(name), ino).second;
  LAYERFS_CHECK(added);
  ++target->node.nlink;
}

void MemoryTree::remove_entry(Ino dir, const std::string& name) {
  Item* parent = item(dir);
  LAYERFS_CHECK(parent);
  auto child = parent->children.find(entry_key(name));
  LAYERFS_CHECK(child != parent->children.end());
  Ino ino = child->second;
  parent->children.erase(child);
  if (item(ino)->node.kind == NodeKind::kDirectory) --parent->node.nlink;
  drop(ino);
}

void MemoryTree::clear_directory(Ino dir) {
  Item* found = item(dir);
  LAYERFS_CHECK(found);
  auto children = std::move(found->children);
  found->children.clear();
  found->node.nlink = 2;
  for (const auto& [key, ino] : children) drop(ino);
}

// One name of `ino` is gone. Not recursive: a tree may be as deep as its paths are long.
void MemoryTree::drop(Ino ino) {
  std::vector<Ino> gone{ino};
  while (!gone.empty()) {
    auto found = nodes_.find(gone.back());
    gone.pop_back();
    Item& dropped = found->second;
    if (dropped.node.kind != NodeKind::kDirectory && --dropped.node.nlink > 0) continue;
    for (const auto& [key, child] : dropped.children) gone.push_back(child);
    nodes_.erase(found);
  }
}

void MemoryTree::replace_node(Ino ino, Node node, std::string inline_bytes, XattrList xattrs) {
  Item* found = item(ino);
  LAYERFS_CHECK(found && found->node.kind == node.kind);
  node.nlink = found->node.nlink;
  node.parent = found->node.parent;
  sort_xattrs(xattrs);
  found->node = node;
  found->inline_bytes = std::move(inline_bytes);
  found->xattrs = std::move(xattrs);
}

void MemoryTree::for_each_node(FunctionRef<void(Ino, const Node&)> visit) const {
  for (const auto& [ino, found] : nodes_) visit(ino, found.node);
}

}  // namespace layerfs::tree
