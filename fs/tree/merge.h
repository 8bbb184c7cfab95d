// SPDX-License-Identifier: Apache-2.0
// The merge rules: layers, lowest first, become one tree (OCI image-spec, layer.md, "Applying Changesets").
//
// (1) Whiteouts and opaque marks of a layer act on what lay below it, before any of its nodes is added. One
// of
//     something that isn't there is harmless. A lower link that this layer replaces by a directory is not
//     followed for them: nothing of that directory lay below.
// (2) A parent path is walked inside the tree: symbolic links are followed as if the tree were "/" (".." at
// the
//     root stays there), so an entry can't land outside; more than 40 links are refused by name, and a parent
//     that is neither directory nor link too. A dangling link's target is made.
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
