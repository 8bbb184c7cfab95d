// SPDX-License-Identifier: Apache-2.0
// An OCI image layout as a directory (OCI image-spec, image-layout.md), new or with images in it already.
//
// (1) A new layout is built beside its place and renamed there. In one that is there, blobs come by rename
//     and index.json, replaced by rename, comes last; blobs that were added are taken away again on an error.
// (2) Other images of the layout keep their entries byte for byte in meaning; one of the same tag loses its
//     entry. Two writers at once: a lock on `oci-layout` makes them wait for each other.
#pragma once

#include <memory>
#include <string>

#include "fs/image/image_output.h"
#include "fs/image/manifest.h"

namespace layerfs::image {

class OciLayoutWriter : public ImageOutput {
 public:
  /// Errors: kInvalid where `directory` is there but no layout; EACCES...
  static Result<std::unique_ptr<OciLayoutWriter>> open(const std::string& directory);
  /// Puts the manifest into the index under `tag`. Requires: called once, before finish().
  virtual Result<void> put_index_entry(const Descriptor& manifest, const std::string& tag) = 0;
};

/// What the file `oci-layout` holds.
inline constexpr std::string_view kLayoutMark = R"({"imageLayoutVersion":"1.0.0"})";

}  // namespace layerfs::image
