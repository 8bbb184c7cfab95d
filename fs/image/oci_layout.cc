// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "fs/base/sha256.h"
#include "fs/image/image_name.h"
#include "fs/image/image_source.h"
#include "fs/image/whiteout_name.h"

namespace layerfs::image {

namespace {

std::string blob_path(const Digest& digest) { return "blobs/sha256/" + digest.hex(); }

/// The document that `descriptor` points at, verified.
Result<std::string> get_document(const SourceFiles& files, const Descriptor& descriptor) {
  if (descriptor.size > kMaxDocument)
    return invalid_error("read blob", descriptor.digest.str(), "longer than 8 MiB");
  LAYERFS_ASSIGN(std::string text, get_text(files, blob_path(descriptor.digest), kMaxDocument));
  if (text.size() != descriptor.size)
    return corrupt_error("verify blob", descriptor.digest.str(),
                         fmt::format("{} bytes instead of {}", text.size(), descriptor.size));
  if (Digest digest = sha256(text); digest != descriptor.digest)
    return corrupt_error("verify blob", descriptor.digest.str(), "its digest is " + digest.str());
  return text;
}

const std::string* find_annotation(const Descriptor& descriptor, std::string_view key) {
  auto found = descriptor.annotations.find(std::string(key));
  return found == descriptor.annotations.end() || found->second.empty() ? nullptr : &found->second;
}

/// What the index calls the image, "" where it doesn't.
std::string index_name(const Descriptor& descriptor) {
  for (std::string_view key : {kContainerdNameAnnotation, kRefNameAnnotation})
    if (const auto* name = find_annotation(descriptor, key)) return *name;
  return {};
}

/// The name is a whole reference, not a tag alone.
bool is_reference(const std::string& name) { return name.find_first_of("/:") != std::string::npos; }

/// References for what the index calls the image.
std::vector<std::string> names_of(const Descriptor& descriptor, const std::string& source_name) {
  std::vector<std::string> names;
  if (const auto* name = find_annotation(descriptor, kContainerdNameAnnotation)) names.push_back(*name);
  const auto* tag = find_annotation(descriptor, kRefNameAnnotation);
  if (tag != nullptr && is_reference(*tag)) {
    if (std::ranges::find(names, *tag) == names.end()) names.push_back(*tag);
  } else if (names.empty() && !source_name.empty()) {
    names.push_back(tag == nullptr ? source_name : source_name + ":" + *tag);
  }
  return names;
}

bool is_named(const Descriptor& descriptor, const std::string& name) {
  for (std::string_view key : {kRefNameAnnotation, kContainerdNameAnnotation}) {
    const auto* has = find_annotation(descriptor, key);
    if (has == nullptr) continue;
    // A bare tag is never another image's name.
    if (*has == name || (is_reference(*has) && is_reference(name) && is_same_name(*has, name))) return true;
  }
  return false;
}

std::string list_names(const std::vector<Descriptor>& manifests) {
  std::string text;
  for (const auto& manifest : manifests) {
    if (std::string name = index_name(manifest); !name.empty())
      text += (text.empty() ? "" : ", ") + shown_name(name);
  }
  return text.empty() ? "none has a name" : text;
}

Result<Descriptor> choose_from_index(const ImageDocuments& documents, const ImageIndex& index,
                                     const ImageChoice& choice, std::vector<std::string>& names,
                                     const std::string& source_name) {
  std::vector<Descriptor> images;
  for (const auto& descriptor : index.manifests) {
    if (!is_index_type(descriptor.media_type) && !is_manifest_type(descriptor.media_type)) continue;
    if (choice.name.empty() || is_named(descriptor, choice.name)) images.push_back(descriptor);
  }
  if (images.empty())
    return choice.name.empty() ? invalid_error("index.json", {}, "no image in it")
                               : invalid_error("tag", choice.name,
                                               "not in the index; there are: " + list_names(index.manifests));
  // Several entries may be one image for several platforms, or one manifest under several tags.
  const Descriptor& first = images.front();
  bool one_name = std::ranges::all_of(images, [&](const auto& image) {
    return image.digest == first.digest || index_name(image) == index_name(first);
  });
  if (!one_name)
    return invalid_error("index.json", {}, "several images in it, name one of: " + list_names(images));
  LAYERFS_ASSIGN(Descriptor chosen, choose_for_platform(images, choice.platform));
  names = names_of(chosen, source_name);
  return follow_indexes(documents, std::move(chosen), choice.platform);
}

Result<SourceLayer> open_layer(const SourceFiles& files, const Descriptor& descriptor,
                               const Digest& diff_id) {
  LAYERFS_ASSIGN(auto blob, files.find(blob_path(descriptor.digest)));
  if (!blob) return system_error(ENOENT, "read layer", descriptor.digest.str());
  if (blob->size != descriptor.size)
    return corrupt_error("verify layer", descriptor.digest.str(),
                         fmt::format("{} bytes instead of {}", blob->size, descriptor.size));
  return layer_in_file(diff_id, *blob, descriptor);
}

}  // namespace

Result<bool> has_oci_layout(const SourceFiles& files) {
  LAYERFS_ASSIGN(auto layout, files.find("oci-layout"));
  LAYERFS_ASSIGN(auto index, files.find("index.json"));
  return layout.has_value() && index.has_value();
}

Result<SourceImage> open_oci_layout(const SourceFiles& files, const std::string& source_name,
                                    const ImageChoice& choice) {
  LAYERFS_ASSIGN(bool is_layout, has_oci_layout(files));
  if (!is_layout) return invalid_error("OCI layout", source_name, "no oci-layout and index.json in it");
  LAYERFS_ASSIGN(std::string index_text, get_text(files, "index.json", kMaxDocument));
  auto index = parse_index(index_text);
  if (!index) return with_context(index.error(), "read", "index.json");

  ImageDocuments documents;
  documents.get = [&](const Descriptor& descriptor) { return get_document(files, descriptor); };
  documents.open_layer = [&](const Descriptor& descriptor, const Digest& diff_id) {
    return open_layer(files, descriptor, diff_id);
  };
  std::vector<std::string> names;
  LAYERFS_ASSIGN(Descriptor chosen, choose_from_index(documents, *index, choice, names, source_name));
  LAYERFS_ASSIGN(std::string manifest, documents.get(chosen));
  LAYERFS_ASSIGN(SourceImage image, read_image(documents, std::move(manifest), chosen.digest, choice));
  image.names = std::move(names);
  return image;
}

}  // namespace layerfs::image
