// SPDX-License-Identifier: Apache-2.0
// A tree as archives want it: children by name, xattrs as a list.
#pragma once

#include <string>
#include <vector>

#include "fs/base/result.h"
#include "fs/tree/layer_record.h"
#include "fs/tree/tree_source.h"

namespace layerfs::image {

struct Child {
  std::string name;
  tree::Ino ino;
  tree::Node node;
};

/// Sorted by name, bytewise. Errors: those of the tree.
Result<std::vector<Child>> sorted_children(const tree::TreeSource& tree, tree::Ino dir);
/// Sorted by name, bytewise. Errors: those of the tree.
Result<tree::XattrList> xattrs_of(const tree::TreeSource& tree, tree::Ino ino);

}  // namespace layerfs::image
