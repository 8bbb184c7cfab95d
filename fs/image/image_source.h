// SPDX-License-Identifier: Apache-2.0
// SourceImage: one image found in a source, its documents verified, its layers not read yet.
//
// (1) manifest and config have their digests and agree: as many layers as diffIDs, and every blob is there
//     with its descriptor's size.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/digest.h"
#include "fs/base/result.h"
#include "fs/image/byte_source.h"
#include "fs/image/image_files.h"
#include "fs/image/manifest.h"

namespace layerfs::image {

struct SourceLayer {
  Digest diff_id;
  FileRange blob;
  /// What the manifest says; nullopt where the source has no manifest (docker-archive).
  std::optional<Descriptor> descriptor;
};

struct SourceImage {
  std::string manifest;  ///< its bytes; empty where one has to be made once the layers are known
  Digest manifest_digest;
  std::string config;
  Digest config_digest;
  std::vector<SourceLayer> layers;  ///< lowest first
  std::vector<std::string> names;   ///< references that the source gives the image, best first; may be none
};

/// What is wanted of a source that has several images.
struct ImageChoice {
  std::string name;  ///< tag or reference; empty: the only one
  Platform platform;
  bool platform_given = false;  ///< asked for, not just this machine's: then a mismatch is an error
};

/// An OCI layout (image-spec, image-layout.md) of `files`; `source_name`: what its images are called where
/// the index says only a tag. Errors: kInvalid (no such name, not unique, no such platform), kCorrupt
/// (digest, size).
Result<SourceImage> open_oci_layout(const ImageFiles& files, const std::string& source_name,
                                    const ImageChoice& choice);
/// True where there are `oci-layout` and `index.json`. Errors: those of reading `files`.
Result<bool> has_oci_layout(const ImageFiles& files);

/// `manifest.json` of `docker save`. Errors: as above.
Result<SourceImage> open_docker_archive(const ImageFiles& files, const ImageChoice& choice);

/// Checks that config and layers agree. Errors: kInvalid.
Result<void> check_image(const ImageConfig& config, std::size_t layers, const ImageChoice& choice);

}  // namespace layerfs::image
