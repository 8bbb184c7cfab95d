// SPDX-License-Identifier: Apache-2.0
// The merged tree of an image as one canonical tar (tar_writer.h): the root first, each directory before what
// is in it, names in bytewise order, the first name of an inode as the file and the others as hard links to
// it.
#pragma once

#include "fs/base/result.h"
#include "fs/image/compress.h"
#include "fs/tree/blob_source.h"
#include "fs/tree/tree_source.h"

namespace layerfs::image {

/// Errors: kCorrupt, EIO of tree and objects; those of `sink`.
Result<void> write_tree_tar(const tree::TreeSource& tree, const tree::BlobSource& blobs,
                            const ByteSink& sink);

}  // namespace layerfs::image
