// SPDX-License-Identifier: Apache-2.0
// lookup, getattr, readlink, readdir.
#include "fs/union/union.h"

namespace layerfs::unionfs {

Result<Entry> Union::answer_entry(Ino dir, std::string_view name) {
  LAYERFS_ASSIGN(auto entry, view_.find_entry(dir, name));
  if (!entry) return errno_error(ENOENT);
  counts_.add(entry->ino);
  return *entry;
}

// Of an inode whose last name was removed the upper has a node without links, and nothing once nobody holds
// it: the tree's shows through then.
Result<bool> Union::has_name(Ino ino, Node node) const {
  while (upper_ && ino != tree::kRootIno) {
    if (upper_->find_node(ino)) return node.nlink != 0;
    if (node.parent == Ino{0}) return true;  // not known
    std::string name;
    LAYERFS_TRY(lower_->list_entries(node.parent, tree::kDirStart, [&](const tree::EntryView& entry) {
      if (entry.ino == ino) name = entry.name;
      return entry.ino != ino;
    }));
    LAYERFS_ASSIGN(auto entry, view_.find_entry(node.parent, name));
    if (!entry || entry->ino != ino) return false;
    ino = node.parent;
    LAYERFS_ASSIGN(node, view_.get_node(ino));
  }
  return true;
}

// What a file handle is opened by (open_by_handle_at(2)).
Result<Entry> Union::lookup_number(Ino ino) {
  std::shared_lock hold(locks_.of(ino));
  LAYERFS_ASSIGN(Node node, view_.get_node(ino));
  LAYERFS_ASSIGN(bool named, has_name(ino, node));
  if (!named) return errno_error(ENOENT);
  counts_.add(ino);
  return Entry{ino, node};
}

Result<Entry> Union::lookup(Ino dir, std::string_view name) {
  LAYERFS_TRY(check_name(name));
  if (name == ".") return lookup_number(dir);
  std::shared_lock hold(locks_.of(dir));
  if (name == "..") {
    LAYERFS_ASSIGN(Node node, get_live_directory(dir));
    LAYERFS_ASSIGN(Node parent, view_.get_node(node.parent));
    counts_.add(node.parent);
    return Entry{node.parent, parent};
  }
  auto entry = answer_entry(dir, name);
  if (entry || entry.error().code != ENOENT) return entry;
  LAYERFS_TRY(get_live_directory(dir));
  return entry;
}

Result<Node> Union::getattr(Ino ino) { return view_.get_node(ino); }

Result<std::string> Union::readlink(Ino ino) {
  LAYERFS_ASSIGN(Node node, view_.get_node(ino));
  if (node.kind != NodeKind::kSymlink) return errno_error(EINVAL);
  return view_.get_inline(ino);
}

Result<void> Union::readdir(Ino dir, DirCookie after, FunctionRef<bool(const EntryView&)> visit) {
  std::shared_lock hold(locks_.of(dir));
  LAYERFS_ASSIGN(Node node, get_live_directory(dir));
  if (after < tree::kDotCookie) {
    if (!visit(EntryView{tree::kDotCookie, ".", dir, node})) return {};
    after = tree::kDotCookie;
  }
  if (after < tree::kDotDotCookie) {
    LAYERFS_ASSIGN(Node parent, view_.get_node(node.parent));
    if (!visit(EntryView{tree::kDotDotCookie, "..", node.parent, parent})) return {};
    after = tree::kDotDotCookie;
  }
  return view_.list_entries(dir, after, visit);
}

}  // namespace layerfs::unionfs
