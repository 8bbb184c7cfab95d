// SPDX-License-Identifier: Apache-2.0
// Export: an image of the store as an OCI layout, OCI archive, docker-archive or root file system tar.
//
// (1) Layers keep their diffIDs: the tar is given back bit by bit (layer_store.h). Manifest and config keep their
//     digests where the compressed blobs come out the same; else the manifest is new and the config is kept.
// (2) The destination appears whole or not at all.
#pragma once

#include <string_view>

#include "fs/base/result.h"
#include "fs/store/store.h"

namespace layerfs::image {

enum class Compression : unsigned char { kNone, kGzip, kZstd };

struct ExportOptions {
  Compression compression = Compression::kGzip;
  int level = 0;  ///< 0: the format's default
};

/// `destination`: `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:REF]` or `tar:FILE` (the merged
/// tree; "-" is standard output).
Result<void> export_image(store::Store& store, const store::ImageRecord& image, std::string_view destination,
                          const ExportOptions& options);

}  // namespace layerfs::image
