// SPDX-License-Identifier: Apache-2.0
// The merge rules: layers, lowest first, become one tree (OCI image-spec, layer.md, "Applying Changesets").
//
// (1) Whiteouts and opaque marks of a layer act on what lay below it, before any of its nodes is added.
// (2) A parent path is walked inside the tree: symbolic links are followed as if the tree were "/", so an
//     entry can't land outside; more than 40 links, or a ".." above the root, is refused by name.
// (3) A missing parent becomes a directory 0755, 0:0, with the time of the entry that needs it.
// (4) A directory over a directory replaces its attributes and xattrs and keeps its children; anything else
//     over anything replaces it. The last entry of a path counts.
// (5) A hard link to nothing is refused by name; to a directory too.
// (6) A symlink, even to a directory, is never followed for an entry's last component.
#pragma once

#include "fs/base/result.h"
#include "fs/tree/layer_record.h"
#include "fs/tree/memory_tree.h"

namespace layerfs::tree {

/// Applies one layer on top. Errors: kInvalid naming the entry. On an error `tree` is of no use any more.
Result<void> merge_layer(MemoryTree& tree, const LayerSource& layer);

}  // namespace layerfs::tree
