// SPDX-License-Identifier: Apache-2.0
// What the catalog knows of images and containers, as values. The bytes are in FORMAT.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "fs/base/digest.h"

namespace layerfs::store {

struct ImageLayer {
  Digest diff_id;
  Digest blob;  ///< digest of the layer as it came (compressed)
  std::uint64_t blob_size = 0;
  std::string media_type;
  bool operator==(const ImageLayer&) const = default;
};

struct ImageRecord {
  std::string reference;           ///< normalised: "localhost/busybox:latest"
  Digest manifest;                 ///< in blobs/
  Digest config;                   ///< in blobs/; the image id
  Digest chain;                    ///< chainID of all layers: names the merged tree
  std::vector<ImageLayer> layers;  ///< lowest first
  std::int64_t imported_at = 0;    ///< seconds since 1970
  bool operator==(const ImageRecord&) const = default;
};

/// A named upper: of a mount or of a container. Its directory is containers/<id>.
struct ContainerRecord {
  std::string id;    ///< 64 hex digits
  std::string name;  ///< unique
  std::string image_reference;
  Digest image_manifest;
  Digest image_config;
  Digest chain;
  std::vector<Digest> layers;  ///< diffIDs, lowest first: what gc must keep
  std::int64_t created_at = 0;
  bool is_mount = false;  ///< made by `layerfs mount`, not by `run`
  bool operator==(const ContainerRecord&) const = default;
};

}  // namespace layerfs::store
