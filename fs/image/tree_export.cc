// SPDX-License-Identifier: Apache-2.0
#include "fs/image/tree_export.h"

#include <algorithm>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fs/base/log.h"
#include "fs/base/sys_file.h"
#include "fs/image/file_content.h"
#include "fs/image/tar_writer.h"
#include "fs/image/tree_listing.h"
#include "fs/image/whiteout_name.h"

namespace layerfs::image {

namespace {

class TreeTar {
 public:
  TreeTar(const tree::TreeSource& tree, const tree::BlobSource& blobs, const ByteSink& sink)
      : tree_(tree), blobs_(blobs), writer_(sink) {}

  Result<void> write() {
    LAYERFS_ASSIGN(auto root, tree_.find_node(tree::kRootIno));
    if (!root) return corrupt_error("read", "tree", "it has no root");
    LAYERFS_TRY(add("", tree::kRootIno, *root));
    // Depth first with a stack of its own: a tree may be deeper than a call stack.
    std::vector<std::pair<std::string, std::vector<Child>>> stack;
    LAYERFS_TRY(push("", tree::kRootIno, stack));
    while (!stack.empty()) {
      auto& [parent, children] = stack.back();
      if (children.empty()) {
        stack.pop_back();
        continue;
      }
      Child child = std::move(children.back());
      children.pop_back();
      std::string path = parent.empty() ? child.name : join_path(parent, child.name);
      LAYERFS_TRY(add(path, child.ino, child.node));
      if (child.node.kind == tree::NodeKind::kDirectory) LAYERFS_TRY(push(path, child.ino, stack));
    }
    return writer_.finish();
  }

 private:
  using Stack = std::vector<std::pair<std::string, std::vector<Child>>>;

  /// Children with the last name first, so that pop_back() gives them in order.
  Result<void> push(const std::string& path, tree::Ino dir, Stack& stack) {
    LAYERFS_ASSIGN(std::vector<Child> children, sorted_children(tree_, dir));
    std::reverse(children.begin(), children.end());
    stack.emplace_back(path, std::move(children));
    return {};
  }

  Result<void> add(const std::string& path, tree::Ino ino, const tree::Node& node) {
    if (node.kind == tree::NodeKind::kSocket) {
      log_warning("leave out '{}': a tar cannot hold a socket", shown_name(path));
      return {};
    }
    TarEntry entry;
    entry.path = path;
    entry.node = node;
    if (node.kind != tree::NodeKind::kDirectory && node.nlink > 1) {
      auto [first, is_new] = first_names_.try_emplace(ino, path);
      if (!is_new) {
        entry.hard_link = first->second;
        return writer_.add(entry);
      }
    }
    LAYERFS_ASSIGN(entry.xattrs, xattrs_of(tree_, ino));
    if (node.kind == tree::NodeKind::kSymlink) {
      LAYERFS_ASSIGN(entry.symlink, tree_.get_inline(ino));
    }
    if (node.kind != tree::NodeKind::kRegular) return writer_.add(entry);
    auto content = FileContent::of_node(ino, node, {tree_, nullptr}, blobs_);
    if (!content) return with_context(std::move(content).error(), "file", path);
    LAYERFS_ASSIGN(entry.runs, content->find_runs());
    LAYERFS_TRY(writer_.add(entry));
    return content->write(entry.runs, [&](std::string_view bytes) { return writer_.write(bytes); });
  }

  const tree::TreeSource& tree_;
  const tree::BlobSource& blobs_;
  TarWriter writer_;
  std::unordered_map<tree::Ino, std::string> first_names_;
};

}  // namespace

Result<void> write_tree_tar(const tree::TreeSource& tree, const tree::BlobSource& blobs,
                            const ByteSink& sink) {
  return TreeTar(tree, blobs, sink).write();
}

}  // namespace layerfs::image
