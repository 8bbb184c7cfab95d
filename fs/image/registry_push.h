// SPDX-License-Identifier: Apache-2.0
// push_image(): an image of the store goes to a registry (fs/registry/REGISTRY.md, "Pushing").
//
// (1) Layers keep their diffIDs and the config is what it was. A layer goes by the blob that it came as where the
//     registry has that, or can take it from another of its repositories, or where compressing gives it again; the
//     manifest is kept with all its bytes where all its blobs are.
// (2) What the registry has is not sent. The manifest comes last: before it nothing can be pulled by the name.
// (3) At most kMaxPushes layers are at work; memory does not grow with the image.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "fs/base/digest.h"
#include "fs/base/result.h"
#include "fs/image/compress.h"
#include "fs/image/exporter.h"
#include "fs/registry/registry_client.h"
#include "fs/store/store.h"

namespace layerfs::image {

inline constexpr unsigned kMaxPushes = 3;
/// Most repositories of the registry that blobs are asked to be mounted from.
inline constexpr std::size_t kMaxMountSources = 8;

struct PushedImage {
  Digest manifest;
  std::size_t layers_sent = 0;     ///< of the distinct ones
  std::size_t layers_present = 0;  ///< that the registry had, or mounted
  std::size_t layers_changed = 0;  ///< that had been compressed, and have another digest now
};

/// `options.compression`: not given, layers are compressed as they came, uncompressed ones with gzip. With a digest in
/// `reference` all of them go as they came, and nothing but a manifest with that digest is put. Errors: those of the
/// store and of the registry.
Result<PushedImage> push_image(store::Store& store, const store::ImageRecord& image,
                               const registry::Reference& reference, const ExportOptions& options);

}  // namespace layerfs::image
