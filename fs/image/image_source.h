// SPDX-License-Identifier: Apache-2.0
// SourceImage: one image found in a source, its documents verified, its layers not read yet.
//
// (1) manifest and config have their digests and agree: as many layers as diffIDs, and every blob is there
//     with its descriptor's size.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fs/base/digest.h"
#include "fs/base/result.h"
#include "fs/image/byte_source.h"
#include "fs/image/manifest.h"
#include "fs/image/source_files.h"

namespace layerfs::image {

/// Gives a blob from its beginning. `stop`: the reading ends with an error once it is true.
using OpenBlob = std::function<Result<std::unique_ptr<ByteSource>>(const std::atomic<bool>& stop)>;

struct SourceLayer {
  Digest diff_id;
  std::uint64_t size = 0;  ///< of the blob
  OpenBlob open;
  bool is_near = true;  ///< reading it again costs little
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
  /// Indexes that the image was chosen of, verified: kept beside it, so that their digests lead to it.
  std::vector<std::pair<Digest, std::string>> indexes;
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
Result<SourceImage> open_oci_layout(const SourceFiles& files, const std::string& source_name,
                                    const ImageChoice& choice);
/// True where there are `oci-layout` and `index.json`. Errors: those of reading `files`.
Result<bool> has_oci_layout(const SourceFiles& files);

/// `manifest.json` of `docker save`. Errors: as above.
Result<SourceImage> open_docker_archive(const SourceFiles& files, const ImageChoice& choice);

/// A layer that lies in a file.
SourceLayer layer_in_file(const Digest& diff_id, FileRange blob, std::optional<Descriptor> descriptor);

/// What reading an image takes, wherever its documents are.
struct ImageDocuments {
  /// The document that a descriptor points at, verified: size and digest.
  std::function<Result<std::string>(const Descriptor&)> get;
  /// A layer with that diffID; its blob is there.
  std::function<Result<SourceLayer>(const Descriptor&, const Digest&)> open_layer;
};

/// The one of `manifests` for the wanted platform. Errors: kInvalid, saying which there are.
Result<Descriptor> choose_for_platform(const std::vector<Descriptor>& manifests, const Platform& wanted);
/// Follows nested indexes (at most four) to the manifest for the platform.
Result<Descriptor> follow_indexes(const ImageDocuments& documents, Descriptor chosen, const Platform& wanted);
/// The image of a manifest whose bytes are verified: config and layers, but no names. Errors: kInvalid, kUnsupported
/// (an artifact), kCorrupt.
Result<SourceImage> read_image(const ImageDocuments& documents, std::string manifest, const Digest& digest,
                               const ImageChoice& choice);

/// What is wanted by `options`, of a source that has several platforms.
ImageChoice choice_of(const ImportOptions& options);
/// Brings an opened image into the store. `source`: what errors call it. Errors: as import_image().
Result<store::ImageRecord> import_source_image(store::Store& store, SourceImage image,
                                               const ImportOptions& options, std::string_view source);

/// Checks that config and layers agree. Errors: kInvalid.
Result<void> check_image(const ImageConfig& config, std::size_t layers, const ImageChoice& choice);

}  // namespace layerfs::image
