// SPDX-License-Identifier: Apache-2.0
// MergedView: a tree with an upper over it, read only, as far as commit needs it: nodes, children, xattrs of
// what a mount of the two shows. Requires: the upper does not change. One thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fs/base/result.h"
#include "fs/image/file_content.h"
#include "fs/tree/blob_source.h"
#include "fs/tree/layer_record.h"
#include "fs/tree/tree_source.h"
#include "fs/tree/upper_layer.h"

namespace layerfs::image {

struct Child {
  std::string name;
  tree::Ino ino;
  tree::Node node;
};

class MergedView {
 public:
  MergedView(const tree::TreeSource& lower, const tree::UpperLayer& upper, const tree::BlobSource& blobs)
      : lower_(lower), upper_(upper), blobs_(blobs) {}

  const tree::TreeSource& lower() const { return lower_; }
  const tree::UpperLayer& upper() const { return upper_; }

  /// nullopt: neither has it.
  Result<std::optional<tree::Node>> find_node(tree::Ino ino) const;
  /// Sorted by name, bytewise. Errors: kCorrupt where an entry's inode is in neither.
  Result<std::vector<Child>> children(tree::Ino dir) const;
  /// The same of the tree alone.
  Result<std::vector<Child>> lower_children(tree::Ino dir) const;
  /// Sorted by name.
  Result<tree::XattrList> xattrs(tree::Ino ino) const;
  Result<std::string> symlink_target(tree::Ino ino) const;
  /// Requires: a regular file.
  Result<FileContent> content(tree::Ino ino) const;
  /// True where an archive would show a difference between the inode in the tree and here: not for its times
  /// but mtime, nor for its link count. Requires: both have it.
  Result<bool> differs_from_lower(tree::Ino ino, const tree::Node& lower_node) const;

 private:
  bool same_content(tree::Ino ino, const tree::Node& above, const tree::Node& below) const;

  const tree::TreeSource& lower_;
  const tree::UpperLayer& upper_;
  const tree::BlobSource& blobs_;
};

}  // namespace layerfs::image
