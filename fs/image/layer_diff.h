// SPDX-License-Identifier: Apache-2.0
// The layer of an upper: what changed over its tree as a canonical tar (tar_writer.h), by the rules of OCI
// image-spec, layer.md. The same change gives the same bytes; the cost is that of what changed, with the
// listings of the directories that lead there and the whole of directories that were moved.
//
// (1) Depth first, names in bytewise order; in each directory its whiteouts come before everything else.
// (2) Removed names have whiteouts of their own, `.wh.NAME`, never an opaque mark; a directory that took the
//     place of another one has a whiteout for each name that only the old one had.
// (3) Every entry's parent directories have an entry too, changed or not: containers/storage would else make
//     them anew, mode 0600, above the lower layers' ones. The root has one only where it changed itself.
// (4) An entry whose attributes, xattrs or bytes changed, or whose name did, is there in full.
// (5) All names of an inode with several are in the layer if one of them is, the first as the file and the
//     others as hard links to it: a link to a file of a lower layer is what containers/storage cannot apply.
// (6) Only what a tar can say counts as a change: not atime, ctime or a link count.
// (7) A name that begins with ".wh." is refused; a socket is left out with a warning in the log, as if it
//     were not there.
#pragma once

#include <cstdint>

#include "fs/base/result.h"
#include "fs/image/compress.h"
#include "fs/tree/blob_source.h"
#include "fs/tree/tree_source.h"
#include "fs/tree/upper_view.h"

namespace layerfs::image {

struct LayerDiffCounts {
  std::uint64_t entries = 0;  ///< of the tar, whiteouts too
  std::uint64_t whiteouts = 0;
  std::uint64_t sockets = 0;  ///< left out (7)
};

/// Writes the layer to `sink`, with the end blocks; nothing but these where nothing changed.
/// Requires: `upper` does not change during the call. Errors: kInvalid (7) with the path; kCorrupt, EIO of
/// tree, upper and objects; those of `sink`.
Result<LayerDiffCounts> write_layer_diff(const tree::TreeSource& lower, const tree::UpperView& upper,
                                         const tree::BlobSource& blobs, const ByteSink& sink);

}  // namespace layerfs::image
