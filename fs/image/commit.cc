// SPDX-License-Identifier: Apache-2.0
#include "fs/image/commit.h"

#include <charconv>
#include <cstdlib>
#include <ctime>
#include <string_view>

#include "fs/base/sha256.h"
#include "fs/image/image_config.h"
#include "fs/image/layer_diff.h"
#include "fs/image/manifest.h"

namespace layerfs::image {

namespace {

/// Reproducible builds' clock where it is set (https://reproducible-builds.org/specs/source-date-epoch).
Result<std::int64_t> creation_time(const CommitOptions& options) {
  if (options.created != 0) return options.created;
  const char* text = std::getenv("SOURCE_DATE_EPOCH");
  if (text == nullptr || *text == '\0') return static_cast<std::int64_t>(std::time(nullptr));
  std::string_view digits = text;
  std::int64_t seconds = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), seconds);
  if (error != std::errc() || end != digits.data() + digits.size())
    return invalid_error("SOURCE_DATE_EPOCH", digits, "not a number of seconds");
  return seconds;
}

/// Docker's layer types in OCI's words: the new manifest is an OCI one.
std::string oci_layer_type(std::string_view type) {
  if (type == media::kDockerLayerGzip) return std::string(media::kOciLayerGzip);
  if (type == media::kDockerLayerZstd) return std::string(media::kOciLayerZstd);
  if (type == media::kDockerLayerTar) return std::string(media::kOciLayerTar);
  return std::string(type);
}

/// The base's layers as its manifest has them; where the store has no such manifest any more, as plain tars.
Result<std::vector<store::ImageLayer>> base_layers(store::Store& store,
                                                   const store::ContainerRecord& container) {
  std::vector<store::ImageLayer> layers;
  if (auto text = store.get_blob(container.image_manifest)) {
    LAYERFS_ASSIGN(ImageManifest manifest, parse_manifest(*text));
    if (manifest.layers.size() != container.layers.size())
      return corrupt_error("manifest", container.image_manifest.str(),
                           "it has not the layers of the container");
    for (std::size_t i = 0; i < container.layers.size(); ++i) {
      const Descriptor& layer = manifest.layers[i];
      layers.push_back({container.layers[i], layer.digest, layer.size, oci_layer_type(layer.media_type)});
    }
    return layers;
  }
  for (const auto& diff_id : container.layers) {
    LAYERFS_ASSIGN(auto layer, store.get_layer(diff_id));
    layers.push_back({diff_id, diff_id, layer->info().tar_bytes, std::string(media::kOciLayerTar)});
  }
  return layers;
}

Result<Digest> put(store::Store& store, std::string_view bytes) {
  Digest digest = sha256(bytes);
  LAYERFS_TRY(store.put_blob(digest, bytes));
  return digest;
}

Result<Digest> put_manifest(store::Store& store, const store::ImageRecord& image, std::size_t config_size) {
  ImageManifest manifest;
  manifest.media_type = media::kOciManifest;
  manifest.config.media_type = media::kOciConfig;
  manifest.config.digest = image.config;
  manifest.config.size = config_size;
  for (const auto& layer : image.layers) {
    Descriptor descriptor;
    descriptor.media_type = layer.media_type;
    descriptor.digest = layer.blob;
    descriptor.size = layer.blob_size;
    manifest.layers.push_back(std::move(descriptor));
  }
  return put(store, format_manifest(manifest));
}

}  // namespace

Result<store::ImageRecord> commit_upper(store::Store& store, const store::ContainerRecord& container,
                                        const tree::TreeSource& lower, const tree::UpperLayer& upper,
                                        const std::string& reference, const CommitOptions& options) {
  store::ImageRecord image;
  LAYERFS_ASSIGN(image.reference, store::normalise_reference(reference));
  LAYERFS_ASSIGN(std::int64_t created, creation_time(options));
  LAYERFS_ASSIGN(auto lease, store.lease());
  LAYERFS_ASSIGN(std::string base_config, store.get_blob(container.image_config));
  // What is wrong with the changes is said before anything is written.
  ConfigLayer on_top{{}, created, options.created_by, options.author, options.message};
  LAYERFS_TRY(edit_config(base_config, on_top, options.changes));

  auto produce = [&](const TarSink& sink) -> Result<void> {
    LAYERFS_TRY(write_layer_diff(lower, upper, store.objects(), sink));
    return {};
  };
  // Our own tar needs no limits: what a container holds may be committed.
  ImportLimits limits;
  limits.layer_bytes = UINT64_MAX;
  limits.entries = UINT64_MAX;
  limits.metadata_bytes = UINT64_MAX;
  LAYERFS_ASSIGN(store::LayerInfo layer, add_layer_from_tar(store, produce, limits));

  on_top.diff_id = layer.diff_id;
  LAYERFS_ASSIGN(std::string config, edit_config(base_config, on_top, options.changes));
  LAYERFS_ASSIGN(image.config, put(store, config));
  LAYERFS_ASSIGN(image.layers, base_layers(store, container));
  image.layers.push_back({layer.diff_id, layer.diff_id, layer.tar_bytes, std::string(media::kOciLayerTar)});
  std::vector<Digest> diff_ids = container.layers;
  diff_ids.push_back(layer.diff_id);
  image.chain = store::chain_id(diff_ids);
  image.imported_at = static_cast<std::int64_t>(std::time(nullptr));
  LAYERFS_ASSIGN(image.manifest, put_manifest(store, image, config.size()));
  LAYERFS_ASSIGN(auto tree, store.get_tree(diff_ids));
  LAYERFS_TRY(options.check_unchanged());
  LAYERFS_TRY(store.put_image(image));
  return image;
}

}  // namespace layerfs::image
