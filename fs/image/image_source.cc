// SPDX-License-Identifier: Apache-2.0
#include "fs/image/image_source.h"

#include <fmt/format.h>

#include <algorithm>

#include "fs/base/log.h"
#include "fs/store/store.h"

namespace layerfs::image {

namespace {

/// Indexes of images nest once (one for each platform); deeper nesting is refused.
constexpr int kMaxIndexDepth = 4;

std::string list_platforms(const std::vector<Descriptor>& manifests) {
  std::string text;
  for (const auto& manifest : manifests) {
    if (!manifest.platform || manifest.platform->os == "unknown") continue;
    text += (text.empty() ? "" : ", ") + platform_text(*manifest.platform);
  }
  return text.empty() ? "none" : text;
}

}  // namespace

SourceLayer layer_in_file(const Digest& diff_id, FileRange blob, std::optional<Descriptor> descriptor) {
  SourceLayer layer;
  layer.diff_id = diff_id;
  layer.size = blob.size;
  layer.open = [range = std::move(blob)](const std::atomic<bool>&) -> Result<std::unique_ptr<ByteSource>> {
    return std::make_unique<RangeSource>(range);
  };
  layer.descriptor = std::move(descriptor);
  return layer;
}

// A single entry is taken as it is: its config decides.
Result<Descriptor> choose_for_platform(const std::vector<Descriptor>& manifests, const Platform& wanted) {
  bool is_one = std::ranges::all_of(manifests, [&](const auto& manifest) {
    return manifest.digest == manifests.front().digest && !manifest.platform;
  });
  if (!manifests.empty() && is_one) return manifests.front();
  if (const Descriptor* found = choose_platform(manifests, wanted)) return *found;
  return invalid_error("platform", platform_text(wanted),
                       "the image is not there for it; there are: " + list_platforms(manifests));
}

Result<Descriptor> follow_indexes(const ImageDocuments& documents, Descriptor chosen,
                                  const Platform& wanted) {
  for (int depth = 0; is_index_type(chosen.media_type); ++depth) {
    if (depth >= kMaxIndexDepth) return invalid_error("index", chosen.digest.str(), "nested too deeply");
    LAYERFS_ASSIGN(std::string text, documents.get(chosen));
    auto nested = parse_index(text);
    if (!nested) return with_context(nested.error(), "index", chosen.digest.str());
    LAYERFS_ASSIGN(chosen, choose_for_platform(nested->manifests, wanted));
  }
  if (!is_manifest_type(chosen.media_type))
    return unsupported_error("manifest type", chosen.media_type, "not an image manifest");
  return chosen;
}

Result<SourceImage> read_image(const ImageDocuments& documents, std::string manifest, const Digest& digest,
                               const ImageChoice& choice) {
  SourceImage image;
  image.manifest = std::move(manifest);
  image.manifest_digest = digest;
  auto parsed = parse_manifest(image.manifest);
  if (!parsed) return with_context(parsed.error(), "manifest", digest.str());
  LAYERFS_ASSIGN(image.config, documents.get(parsed->config));
  image.config_digest = parsed->config.digest;
  auto config = parse_image_config(image.config);
  if (!config) return with_context(config.error(), "config", image.config_digest.str());
  if (auto checked = check_image(*config, parsed->layers.size(), choice); !checked)
    return with_context(checked.error(), "config", image.config_digest.str());
  for (std::size_t i = 0; i < parsed->layers.size(); ++i) {
    LAYERFS_ASSIGN(SourceLayer layer, documents.open_layer(parsed->layers[i], config->diff_ids[i]));
    image.layers.push_back(std::move(layer));
  }
  return image;
}

Result<void> check_image(const ImageConfig& config, std::size_t layers, const ImageChoice& choice) {
  auto refuse = [](std::string reason) {
    return std::unexpected(Error{ErrorKind::kInvalid, EINVAL, {}, std::move(reason)});
  };
  if (config.diff_ids.size() != layers)
    return refuse(fmt::format("{} diffIDs for {} layers", config.diff_ids.size(), layers));
  const Platform& has = config.platform;
  const Platform& wanted = choice.platform;
  bool fits = (has.os.empty() || has.os == wanted.os) &&
              (has.architecture.empty() || has.architecture == wanted.architecture);
  if (fits) return {};
  if (choice.platform_given)
    return refuse(fmt::format("the image is for {}, not for {}", platform_text(has), platform_text(wanted)));
  log_warning("the image is for {}, this machine is {}", platform_text(has), platform_text(wanted));
  return {};
}

}  // namespace layerfs::image
