// SPDX-License-Identifier: Apache-2.0
// A stored layer as the tar that it came from.
#pragma once

#include "fs/base/result.h"
#include "fs/image/compress.h"
#include "fs/store/store.h"

namespace layerfs::image {

/// Writes the uncompressed tar of a layer to `sink`, bit by bit as it was imported. Errors: kCorrupt where
/// the bytes do not have the diffID, which is known only after the last of them; ENOENT, EIO; those of
/// `sink`.
Result<void> stream_layer(store::Store& store, const Digest& diff_id, const ByteSink& sink);

}  // namespace layerfs::image
