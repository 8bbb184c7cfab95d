// SPDX-License-Identifier: Apache-2.0
// MemoryTree: a tree in memory that can be built up. The merger builds one from an image's layers and the
// store writes it out; tests use it as a lower tree.
//
// (1) Inode numbers are given from one above the base's greatest, in the order of creation.
// (2) nlink, and parent of directories, are kept right by every change. Of other kinds parent is the
//     directory that add_node put them in (node.h), whatever later became of that name.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "fs/tree/layer_record.h"
#include "fs/tree/tree_source.h"

namespace layerfs::tree {

class MemoryTree final : public TreeSource {
 public:
  /// Only a root directory, mode 0755, owned by 0:0, time zero.
  MemoryTree();

  /// A copy of `base`, numbers kept.
  static Result<MemoryTree> copy_of(const TreeSource& base);

  Result<std::optional<Node>> find_node(Ino ino) const override;
  Result<std::optional<Entry>> find_entry(Ino dir, std::string_view name) const override;
  Result<void> list_entries(Ino dir, DirCookie after, EntryVisitor visit) const override;
  Result<std::optional<std::string>> find_xattr(Ino ino, std::string_view name) const override;
  Result<void> list_xattrs(Ino ino, XattrVisitor visit) const override;
  Result<std::string> get_inline(Ino ino) const override;
  Ino max_ino() const override;

  /// Adds a new node under `dir` and returns its number. `inline_bytes`: a symlink's target.
  /// Requires: `dir` is a directory without `name`.
  Ino add_node(Ino dir, const std::string& name, Node node, std::string inline_bytes, XattrList xattrs);
  /// Another name for `ino`. Requires: not a directory; `dir` has no `name`.
  void add_link(Ino dir, const std::string& name, Ino ino);
  /// Removes the entry, and all below a directory. Requires: it is there.
  void remove_entry(Ino dir, const std::string& name);
  /// Removes all children.
  void clear_directory(Ino dir);
  /// New attributes, content, bytes and xattrs for an inode of the same kind; its number, nlink and parent
  /// stay.
  void replace_node(Ino ino, Node node, std::string inline_bytes, XattrList xattrs);
  /// Every node in order of its number, for writing out.
  void for_each_node(FunctionRef<void(Ino, const Node&)> visit) const;
  std::size_t node_count() const { return nodes_.size(); }

 private:
  struct Item {
    Node node;
    std::string inline_bytes;
    XattrList xattrs;  // sorted by name
    // Directory order: (cookie, name).
    std::map<std::pair<DirCookie, std::string>, Ino> children;
  };
  Item* item(Ino ino);
  const Item* item(Ino ino) const;
  void drop(Ino ino);

  std::map<Ino, Item> nodes_;
  Ino next_{2};
};

}  // namespace layerfs::tree
