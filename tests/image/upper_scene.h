// SPDX-License-Identifier: Apache-2.0
// A small tree with an upper over it, changed as the union changes it (one node per inode, tombstones over
// the tree's names), and the layer that comes of it. Paths are those of the merged view.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fs/image/layer_diff.h"
#include "fs/tree/memory_blobs.h"
#include "fs/tree/memory_tree.h"
#include "fs/upper/memory_upper.h"
#include "tests/image/tar_listing.h"

namespace layerfs::image {

class UpperScene : public testing::Test {
 protected:
  using Ino = tree::Ino;
  using Node = tree::Node;
  using NodeKind = tree::NodeKind;

  static Node node_of(NodeKind kind, std::uint16_t mode, std::int64_t seconds) {
    Node node;
    node.kind = kind;
    node.mode = mode;
    node.mtime = {seconds, 0};
    return node;
  }

  // The tree below.
  Ino lower_dir(Ino dir, const std::string& name) {
    return lower_.add_node(dir, name, node_of(NodeKind::kDirectory, 0755, 100), {}, {});
  }
  Ino lower_file(Ino dir, const std::string& name, const std::string& content, tree::XattrList xattrs = {}) {
    return lower_.add_node(dir, name, file_node(content, 100), {}, std::move(xattrs));
  }
  Ino lower_symlink(Ino dir, const std::string& name, const std::string& target) {
    Node node = node_of(NodeKind::kSymlink, 0777, 100);
    node.content = tree::ContentKind::kInline;
    node.size = target.size();
    return lower_.add_node(dir, name, node, target, {});
  }

  // What a union does.
  Node node(Ino ino) {
    if (auto found = upper_->find_node(ino)) return *found;
    return lower_.find_node(ino).value().value();
  }
  Ino find(Ino dir, const std::string& name) {
    auto entry = upper_->find_entry(dir, name);
    if (entry.state == tree::EntryState::kPresent) return entry.ino;
    EXPECT_EQ(entry.state, tree::EntryState::kAbsent) << name;
    auto below = lower_.find_entry(dir, name).value();
    EXPECT_TRUE(below) << name;
    return below ? below->ino : Ino{0};
  }
  template <class Change>
  void change(Ino ino, Change edit) {
    Node changed = node(ino);
    edit(changed);
    apply({tree::PutNode{ino, changed}});
  }
  void touch(Ino ino, std::int64_t seconds) {
    change(ino, [&](Node& n) { n.mtime = {seconds, 0}; });
  }
  Ino make_file(Ino dir, const std::string& name, const std::string& content) {
    return make(dir, name, file_node(content, 200), {});
  }
  Ino make_dir(Ino dir, const std::string& name) {
    Node made = node_of(NodeKind::kDirectory, 0755, 200);
    made.nlink = 2;
    made.parent = dir;
    return make(dir, name, made, {});
  }
  Ino make(Ino dir, const std::string& name, Node made, const std::string& inline_bytes) {
    Ino ino = upper_->allocate_ino();
    apply({tree::PutNode{ino, made}, tree::PutEntry{dir, name, ino, made.kind}});
    if (!inline_bytes.empty()) apply({tree::PutInline{ino, inline_bytes}});
    return ino;
  }
  void remove(Ino dir, const std::string& name) {
    Ino ino = find(dir, name);
    hide(dir, name);
    change(ino, [](Node& n) { n.nlink = n.kind == NodeKind::kDirectory ? 0 : n.nlink - 1; });
  }
  void link(Ino ino, Ino dir, const std::string& name) {
    apply({tree::PutEntry{dir, name, ino, node(ino).kind}});
    change(ino, [](Node& n) { ++n.nlink; });
  }
  void rename(Ino dir, const std::string& name, Ino new_dir, const std::string& new_name) {
    Ino ino = find(dir, name);
    hide(dir, name);
    apply({tree::PutEntry{new_dir, new_name, ino, node(ino).kind}});
    if (node(ino).kind == NodeKind::kDirectory) change(ino, [&](Node& n) { n.parent = new_dir; });
  }
  void apply(std::vector<tree::Change> changes) {
    auto applied = upper_->apply({std::move(changes), 0});
    ASSERT_TRUE(applied) << applied.error().message();
  }

  std::string layer_bytes() {
    std::string tar;
    auto written = write_layer_diff(lower_, *upper_, blobs_, [&](std::string_view bytes) -> Result<void> {
      tar += bytes;
      return {};
    });
    if (!written) {
      ADD_FAILURE() << written.error().message();
      return std::string(1024, '\0');
    }
    counts_ = *written;
    return tar;
  }
  std::vector<ListedEntry> layer() { return list_tar(layer_bytes()); }
  std::vector<std::string> layer_names() { return names_of(layer()); }

  Node file_node(const std::string& content, std::int64_t seconds) {
    Node made = node_of(NodeKind::kRegular, 0644, seconds);
    made.size = content.size();
    if (!content.empty()) {
      made.content = tree::ContentKind::kObject;
      made.object = blobs_.put(content).value();
    }
    return made;
  }

  static constexpr Ino kRoot = tree::kRootIno;
  tree::MemoryTree lower_;
  tree::MemoryBlobs blobs_;
  std::unique_ptr<tree::UpperLayer> upper_ = upper::make_memory_upper();
  LayerDiffCounts counts_;

 private:
  void hide(Ino dir, const std::string& name) {
    if (lower_.find_entry(dir, name).value()) {
      apply({tree::PutTombstone{dir, name}});
    } else {
      apply({tree::EraseEntry{dir, name}});
    }
  }
};

}  // namespace layerfs::image
