// SPDX-License-Identifier: Apache-2.0
// The merge rules: layers, lowest first, become one tree (OCI image-spec, layer.md, "Applying Changesets"),
// the one that an overlay of the layers shows, each unpacked by itself, as Docker's overlay2, containerd and
// containers/storage have it.
//
// (1) Whiteouts and opaque marks of a layer act on what lay below it, before any of its nodes is added. One
//     of something that isn't there is harmless. No link is followed for them.
// (2) A parent path is walked inside the tree, so an entry can't land outside of it (".." at the root stays
//     there). A symbolic link that this layer has is followed, as it is when the layer is unpacked; more than
//     40 are refused by name, and a dangling link's target is made.
// (3) Where a lower layer has something else than a directory in the place of a parent (a file, a fifo, a
//     device, a symbolic link wherever it leads), the parent becomes a directory in its place; where this
//     layer has it, and it is no link, the entry is refused by name.
// (4) A missing parent becomes a directory 0755, 0:0, with the time of the entry that needs it.
// (5) A directory over a directory replaces its attributes and xattrs and keeps its children; anything else
//     over anything replaces it. The last entry of a path counts.
// (6) A hard link to nothing is refused by name; to a directory too. Links on the way to its target are
//     followed whoever has them.
// (7) A symlink, even to a directory, is never followed for an entry's last component.
// (8) What it costs grows with the layer's bytes: the steps through targets of links are counted, and refused
//     where they are out of all proportion to the entries; directories that no entry makes are counted, too.
#pragma once

#include <cstdint>

#include "fs/base/result.h"
#include "fs/tree/layer_record.h"
#include "fs/tree/memory_tree.h"

namespace layerfs::tree {

struct MergeLimits {
  std::uint64_t nodes = UINT64_MAX;         ///< of the whole tree
  std::uint64_t made_parents = UINT64_MAX;  ///< directories that no entry of the layer makes (4)
};

/// Applies one layer on top. Errors: kInvalid naming the entry. On an error `tree` is of no use any more.
Result<void> merge_layer(MemoryTree& tree, const LayerRecords& layer, const MergeLimits& limits = {});

}  // namespace layerfs::tree
