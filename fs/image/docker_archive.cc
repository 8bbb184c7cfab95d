// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "fs/base/sha256.h"
#include "fs/image/image_name.h"
#include "fs/image/image_source.h"
#include "fs/image/whiteout_name.h"

namespace layerfs::image {

namespace {

bool is_tagged(const ArchiveImage& image, const std::string& name) {
  return std::ranges::any_of(image.repo_tags,
                             [&](const std::string& tag) { return is_same_name(tag, name); });
}

std::string list_tags(const std::vector<ArchiveImage>& images) {
  std::string text;
  for (const auto& image : images)
    for (const auto& tag : image.repo_tags) text += (text.empty() ? "" : ", ") + shown_name(tag);
  return text.empty() ? "none has a name" : text;
}

Result<ArchiveImage> choose(const std::vector<ArchiveImage>& images, const std::string& name) {
  if (images.empty()) return invalid_error("manifest.json", {}, "no image in it");
  if (name.empty()) {
    if (images.size() == 1) return images.front();
    return invalid_error("manifest.json", {}, "several images in it, name one of: " + list_tags(images));
  }
  for (const auto& image : images)
    if (is_tagged(image, name)) return image;
  return invalid_error("reference", name, "not in the archive; there are: " + list_tags(images));
}

/// The digest that the name of a config file promises: `HEX.json` or `blobs/sha256/HEX`; nullopt: none.
std::optional<Digest> promised_digest(std::string_view path) {
  if (std::size_t slash = path.rfind('/'); slash != std::string_view::npos) path.remove_prefix(slash + 1);
  if (path.ends_with(".json")) path.remove_suffix(5);
  auto digest = parse_hex_digest(path);
  return digest ? std::optional(*digest) : std::nullopt;
}

}  // namespace

Result<SourceImage> open_docker_archive(const SourceFiles& files, const ImageChoice& choice) {
  LAYERFS_ASSIGN(std::string text, get_text(files, "manifest.json", kMaxDocument));
  auto images = parse_archive_manifest(text);
  if (!images) return with_context(images.error(), "read", "manifest.json");
  LAYERFS_ASSIGN(ArchiveImage chosen, choose(*images, choice.name));

  SourceImage image;
  image.names = chosen.repo_tags;
  LAYERFS_ASSIGN(image.config, get_text(files, chosen.config, kMaxDocument));
  image.config_digest = sha256(image.config);
  if (auto promised = promised_digest(chosen.config); promised && *promised != image.config_digest)
    return corrupt_error("verify config", chosen.config, "its digest is " + image.config_digest.str());
  auto config = parse_image_config(image.config);
  if (!config) return with_context(config.error(), "config", chosen.config);
  if (auto checked = check_image(*config, chosen.layers.size(), choice); !checked)
    return with_context(checked.error(), "config", chosen.config);
  for (std::size_t i = 0; i < chosen.layers.size(); ++i) {
    LAYERFS_ASSIGN(auto blob, files.find(chosen.layers[i]));
    if (!blob) return system_error(ENOENT, "read layer", shown_name(chosen.layers[i]));
    image.layers.push_back(layer_in_file(config->diff_ids[i], *blob, std::nullopt));
  }
  return image;
}

}  // namespace layerfs::image
