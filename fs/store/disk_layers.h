// SPDX-License-Identifier: Apache-2.0
// Layers on disk: layers/<diffID>/records and framing, two block files (FORMAT.md, "Layers").
#pragma once

#include <memory>

#include "fs/base/digest.h"
#include "fs/base/result.h"
#include "fs/store/layer_store.h"
#include "fs/store/layout.h"

namespace layerfs::store {

/// `lease` is held until the writer is gone. Requires: `layout` outlives the writer.
Result<std::unique_ptr<LayerWriter>> make_layer_writer(const Layout& layout, Fd lease);

/// Opens both files and checks their heads and footers. Errors: ENOENT naming the layer; kCorrupt.
Result<std::shared_ptr<const StoredLayer>> open_layer(const Layout& layout, const Digest& diff_id);

}  // namespace layerfs::store
