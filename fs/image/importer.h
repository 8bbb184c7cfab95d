// SPDX-License-Identifier: Apache-2.0
// Import: a source on disk becomes an image in the store. IMAGE.md has the pipeline and its invariants.
//
// (1) Nothing is visible before every digest, diffID and size was verified.
// (2) One pass over the data; memory does not grow with a layer's size.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "fs/base/result.h"
#include "fs/registry/registry_client.h"
#include "fs/store/store.h"

namespace layerfs::image {

struct ImportLimits {
  std::uint64_t layer_bytes = std::uint64_t{64} << 30;  ///< uncompressed, one layer
  std::uint64_t entries = 10'000'000;                   ///< of one layer, and of the image's merged tree
  std::uint64_t expansion = 1000;                       ///< uncompressed over compressed, above 100 MiB
  std::uint64_t implied_directories = 1'000'000;        ///< of a layer: parents that no entry makes
  /// Of one layer: names, link targets, names and values of xattrs, and kEntryBytes for each entry.
  std::uint64_t metadata_bytes = std::uint64_t{2} << 30;
  std::uint64_t zstd_window = std::uint64_t{512}
                              << 20;  ///< of one layer; memory of a decompressor (2 GiB at most)
  std::uint64_t names = 1000;         ///< that a source gives the image
  static constexpr std::uint64_t kEntryBytes = 64;
};

struct ImportProgress {
  std::uint64_t bytes_done = 0;   ///< of the compressed layers
  std::uint64_t bytes_total = 0;  ///< 0: unknown
  std::size_t layers_done = 0;
  std::size_t layers_total = 0;
};

struct ImportOptions {
  std::string name;  ///< reference to give; empty: what the source says
  std::string platform_os = "linux";
  std::string platform_architecture;  ///< empty: this machine's, in Go's names (amd64)
  std::string platform_variant;
  ImportLimits limits;
  /// From the calling thread; an error ends the import, which leaves nothing behind.
  std::function<Result<void>(const ImportProgress&)> progress;
  registry::AccessOptions access;  ///< how registries are asked
};

/// `source`: `docker://REF`, `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:REF]`, `tar:FILE`,
/// `dir:PATH` or `-`. Returns the image that is now in the store. Errors: kInvalid / kCorrupt naming the blob or the
/// entry.
Result<store::ImageRecord> import_image(store::Store& store, std::string_view source,
                                        const ImportOptions& options);

/// Adds one layer from an uncompressed tar that `produce` writes piece by piece, as commit does. Returns the
/// layer's info; the layer is durable.
using TarSink = std::function<Result<void>(std::string_view)>;
Result<store::LayerInfo> add_layer_from_tar(store::Store& store,
                                            const std::function<Result<void>(const TarSink&)>& produce,
                                            const ImportLimits& limits);

}  // namespace layerfs::image
