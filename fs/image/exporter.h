// SPDX-License-Identifier: Apache-2.0
// Export: an image of the store as an OCI layout, OCI archive, docker-archive, root file system tar, or to a registry
// (registry_push.h).
//
// (1) Layers keep their diffIDs: the tar is given back bit by bit (layer_store.h), and verified on the way.
//     The config is kept; the manifest too where the compressed blobs come out the same, else it is new.
// (2) The destination appears whole or not at all. A layout that is there keeps its other images.
// (3) The same image and options give the same bytes.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

#include "fs/base/result.h"
#include "fs/image/compress.h"
#include "fs/registry/registry_client.h"
#include "fs/store/store.h"

namespace layerfs::image {

struct ExportProgress {
  std::uint64_t bytes_done = 0;   ///< uncompressed
  std::uint64_t bytes_total = 0;  ///< 0: unknown
};

struct ExportOptions {
  /// Of the layers; of the whole file with `tar:`. Not given: gzip for layouts and OCI archives, none for
  /// docker-archive and `tar:`, for a registry what push_image() says.
  std::optional<Compression> compression;
  int level = 0;  ///< 0: the format's default
  /// Called again and again while bytes go out, from the calling thread; an error ends the export, which
  /// leaves nothing behind. May be empty.
  std::function<Result<void>(const ExportProgress&)> progress;
  registry::AccessOptions access;  ///< how a registry is asked
};

/// `destination`: `docker://REF`, `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:REF]` or `tar:FILE` (the
/// merged tree; "-" is standard output). TAG and REF are the image's own where they are not given. Errors:
/// kInvalid for a destination of no such form; kCorrupt, ENOENT where the store is damaged; ENOSPC...
Result<void> export_image(store::Store& store, const store::ImageRecord& image, std::string_view destination,
                          const ExportOptions& options);

}  // namespace layerfs::image
