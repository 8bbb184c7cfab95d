// SPDX-License-Identifier: Apache-2.0
// The layers of one image into the store, several at a time.
//
// (1) Layers that the store has by diffID, and repeats within the image, are not read again.
// (2) The first error stops the others; layers that were published before it stay until gc.
// (3) At most kMaxParallel layers are at work, so memory is bounded whatever the image's size.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fs/base/result.h"
#include "fs/image/image_source.h"
#include "fs/image/importer.h"

namespace layerfs::image {

inline constexpr unsigned kMaxParallel = 4;

/// Errors: those of import_layer, naming the layer.
Result<void> import_missing_layers(store::Store& store, const std::vector<SourceLayer>& layers,
                                   const ImportOptions& options);

}  // namespace layerfs::image
