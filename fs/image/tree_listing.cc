// SPDX-License-Identifier: Apache-2.0
#include "fs/image/tree_listing.h"

#include <algorithm>

namespace layerfs::image {

Result<std::vector<Child>> sorted_children(const tree::TreeSource& tree, tree::Ino dir) {
  std::vector<Child> children;
  LAYERFS_TRY(tree.list_entries(dir, tree::kDirStart, [&](const tree::EntryView& entry) {
    children.push_back({std::string(entry.name), entry.ino, entry.node});
    return true;
  }));
  std::sort(children.begin(), children.end(), [](const Child& a, const Child& b) { return a.name < b.name; });
  return children;
}

Result<tree::XattrList> xattrs_of(const tree::TreeSource& tree, tree::Ino ino) {
  tree::XattrList xattrs;
  LAYERFS_TRY(tree.list_xattrs(ino, [&](std::string_view name, std::string_view value) {
    xattrs.emplace_back(name, value);
    return true;
  }));
  return xattrs;
}

}  // namespace layerfs::image
