// SPDX-License-Identifier: Apache-2.0
#include "fs/image/manifest.h"

#include <fmt/format.h>
#include <sys/utsname.h>

#include <algorithm>

#include "fs/base/refuse.h"
#include "fs/registry/json.h"

namespace layerfs::image {

namespace {

using registry::find_member;
using registry::Json;
using registry::text_or_none;

Result<Json> parse_document(std::string_view text, Json::value_t type) {
  if (text.size() > kMaxDocument) return refuse("longer than 8 MiB");
  return registry::parse_json(text, type);
}

/// "" where absent.
Result<std::string> text_of(const Json& object, const char* key) {
  const Json* member = find_member(object, key);
  if (member == nullptr) return std::string();
  if (!member->is_string()) return refuse(fmt::format("'{}' is not a string", key));
  return member->get_ref<const std::string&>();
}

/// An empty array where absent.
Result<const Json*> array_of(const Json& object, const char* key) {
  static const Json kEmpty = Json::array();
  const Json* member = find_member(object, key);
  if (member == nullptr) return &kEmpty;
  if (!member->is_array()) return refuse(fmt::format("'{}' is not an array", key));
  return member;
}

Result<Digest> digest_of(const Json& value, const char* what) {
  if (!value.is_string()) return refuse(fmt::format("'{}' is not a string", what));
  return parse_digest(value.get_ref<const std::string&>());
}

Result<void> check_schema(const Json& json) {
  const Json* version = find_member(json, "schemaVersion");
  if (version == nullptr || !version->is_number_integer()) return refuse("no 'schemaVersion'");
  if (*version == 2) return {};
  return unsupported_error("schemaVersion", version->dump(),
                           "only 2 is known (pull the image anew to convert it)");
}

std::optional<Platform> platform_of(const Json& descriptor) {
  const Json* member = find_member(descriptor, "platform");
  if (member == nullptr || !member->is_object()) return std::nullopt;
  return Platform{text_or_none(*member, "os"), text_or_none(*member, "architecture"),
                  text_or_none(*member, "variant")};
}

Result<Descriptor> descriptor_of(const Json& json, const char* what) {
  if (!json.is_object()) return refuse(fmt::format("'{}' is not a descriptor", what));
  Descriptor descriptor;
  LAYERFS_ASSIGN(descriptor.media_type, text_of(json, "mediaType"));
  const Json* digest = find_member(json, "digest");
  if (digest == nullptr) return refuse(fmt::format("'{}' has no digest", what));
  LAYERFS_ASSIGN(descriptor.digest, digest_of(*digest, "digest"));
  const Json* size = find_member(json, "size");
  if (size == nullptr || !size->is_number_unsigned())
    return refuse(fmt::format("'{}' has no valid size", what));
  descriptor.size = size->get<std::uint64_t>();
  if (const Json* annotations = find_member(json, "annotations");
      annotations != nullptr && annotations->is_object())
    for (const auto& [key, value] : annotations->items())
      if (value.is_string()) descriptor.annotations[key] = value.get_ref<const std::string&>();
  descriptor.platform = platform_of(json);
  const Json* urls = find_member(json, "urls");
  descriptor.has_urls = urls != nullptr && urls->is_array() && !urls->empty();
  return descriptor;
}

Result<std::vector<std::string>> texts_of(const Json& object, const char* key) {
  LAYERFS_ASSIGN(const Json* array, array_of(object, key));
  std::vector<std::string> texts;
  for (const auto& value : *array) {
    if (!value.is_string()) return refuse(fmt::format("'{}' holds something other than strings", key));
    texts.push_back(value.get_ref<const std::string&>());
  }
  return texts;
}

Json to_json(const Descriptor& descriptor) {
  Json json = {
      {"mediaType", descriptor.media_type}, {"digest", descriptor.digest.str()}, {"size", descriptor.size}};
  if (!descriptor.annotations.empty()) json["annotations"] = descriptor.annotations;
  if (descriptor.platform) {
    json["platform"] = {{"os", descriptor.platform->os}, {"architecture", descriptor.platform->architecture}};
    if (!descriptor.platform->variant.empty()) json["platform"]["variant"] = descriptor.platform->variant;
  }
  return json;
}

/// Image names may hold any bytes that JSON allowed; what is no UTF-8 is replaced rather than thrown on.
std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace

bool is_index_type(std::string_view type) { return type == media::kOciIndex || type == media::kDockerList; }
bool is_manifest_type(std::string_view type) {
  return type == media::kOciManifest || type == media::kDockerManifest;
}
bool is_config_type(std::string_view type) {
  return type == media::kOciConfig || type == media::kDockerConfig;
}
bool is_layer_type(std::string_view type) {
  constexpr std::string_view kTypes[] = {
      media::kOciLayerTar,
      media::kOciLayerGzip,
      media::kOciLayerZstd,
      media::kDockerLayerTar,
      media::kDockerLayerGzip,
      media::kDockerLayerZstd,
      "application/vnd.oci.image.layer.nondistributable.v1.tar",
      "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
      "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
      "application/vnd.docker.image.rootfs.foreign.diff.tar",
      "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
      "application/vnd.docker.image.rootfs.foreign.diff.tar.zstd",
  };
  return std::ranges::find(kTypes, type) != std::end(kTypes);
}

Compression layer_compression(std::string_view type) {
  if (type.ends_with("gzip")) return Compression::kGzip;
  return type.ends_with("zstd") ? Compression::kZstd : Compression::kNone;
}

std::string_view layer_media_type(Compression compression) {
  switch (compression) {
    case Compression::kNone: return media::kOciLayerTar;
    case Compression::kGzip: return media::kOciLayerGzip;
    case Compression::kZstd: return media::kOciLayerZstd;
  }
  return media::kOciLayerTar;
}

std::string media_type_of(std::string_view text) {
  auto json = parse_document(text, Json::value_t::object);
  return json ? text_or_none(*json, "mediaType") : std::string();
}

Result<ImageIndex> parse_index(std::string_view text) {
  LAYERFS_ASSIGN(Json json, parse_document(text, Json::value_t::object));
  LAYERFS_TRY(check_schema(json));
  // "manifests" may not be absent: a manifest taken for an index would read as an empty one.
  if (find_member(json, "manifests") == nullptr) return refuse("an index without 'manifests'");
  LAYERFS_ASSIGN(const Json* manifests, array_of(json, "manifests"));
  ImageIndex index;
  for (const auto& item : *manifests) {
    LAYERFS_ASSIGN(Descriptor descriptor, descriptor_of(item, "manifests"));
    index.manifests.push_back(std::move(descriptor));
  }
  return index;
}

Result<ImageManifest> parse_manifest(std::string_view text) {
  LAYERFS_ASSIGN(Json json, parse_document(text, Json::value_t::object));
  LAYERFS_TRY(check_schema(json));
  ImageManifest manifest;
  LAYERFS_ASSIGN(manifest.media_type, text_of(json, "mediaType"));
  if (manifest.media_type.empty()) manifest.media_type = media::kOciManifest;  // optional in OCI
  if (!is_manifest_type(manifest.media_type))
    return unsupported_error("manifest type", manifest.media_type, "not an image manifest");
  // An index has no config, an artifact may have both: neither is to be taken for the other.
  if (find_member(json, "manifests") != nullptr) return refuse("both a manifest and an index");
  const Json* config = find_member(json, "config");
  if (config == nullptr) return refuse("a manifest without 'config'");
  LAYERFS_ASSIGN(manifest.config, descriptor_of(*config, "config"));
  if (!is_config_type(manifest.config.media_type))
    return unsupported_error("config type", manifest.config.media_type, "an artifact, not a container image");
  LAYERFS_ASSIGN(const Json* layers, array_of(json, "layers"));
  if (layers->size() > kMaxLayers) return refuse(fmt::format("more than {} layers", kMaxLayers));
  for (const auto& item : *layers) {
    LAYERFS_ASSIGN(Descriptor layer, descriptor_of(item, "layers"));
    if (!is_layer_type(layer.media_type))
      return unsupported_error("layer type", layer.media_type, "not a tar, plain or with gzip or zstd");
    manifest.layers.push_back(std::move(layer));
  }
  return manifest;
}

Result<ImageConfig> parse_image_config(std::string_view text) {
  LAYERFS_ASSIGN(Json json, parse_document(text, Json::value_t::object));
  ImageConfig config;
  config.platform = {text_or_none(json, "os"), text_or_none(json, "architecture"),
                     text_or_none(json, "variant")};
  const Json* rootfs = find_member(json, "rootfs");
  if (rootfs == nullptr || !rootfs->is_object()) return refuse("a config without 'rootfs'");
  LAYERFS_ASSIGN(std::string type, text_of(*rootfs, "type"));
  if (type != "layers") return refuse(fmt::format("rootfs type '{}' instead of 'layers'", type));
  LAYERFS_ASSIGN(const Json* diff_ids, array_of(*rootfs, "diff_ids"));
  if (diff_ids->size() > kMaxLayers) return refuse(fmt::format("more than {} layers", kMaxLayers));
  for (const auto& item : *diff_ids) {
    LAYERFS_ASSIGN(Digest diff_id, digest_of(item, "diff_ids"));
    config.diff_ids.push_back(diff_id);
  }
  return config;
}

Result<std::vector<ArchiveImage>> parse_archive_manifest(std::string_view text) {
  LAYERFS_ASSIGN(Json json, parse_document(text, Json::value_t::array));
  std::vector<ArchiveImage> images;
  for (const auto& item : json) {
    if (!item.is_object()) return refuse("an image is not an object");
    ArchiveImage image;
    LAYERFS_ASSIGN(image.config, text_of(item, "Config"));
    if (image.config.empty()) return refuse("an image without 'Config'");
    LAYERFS_ASSIGN(image.repo_tags, texts_of(item, "RepoTags"));
    LAYERFS_ASSIGN(image.layers, texts_of(item, "Layers"));
    if (image.layers.size() > kMaxLayers) return refuse(fmt::format("more than {} layers", kMaxLayers));
    images.push_back(std::move(image));
  }
  return images;
}

std::string format_index(const ImageIndex& index) {
  Json json = {{"schemaVersion", 2}, {"mediaType", media::kOciIndex}, {"manifests", Json::array()}};
  for (const auto& descriptor : index.manifests) json["manifests"].push_back(to_json(descriptor));
  return dump(json);
}

std::string format_manifest(const ImageManifest& manifest) {
  Json json = {{"schemaVersion", 2},
               {"mediaType", manifest.media_type},
               {"config", to_json(manifest.config)},
               {"layers", Json::array()}};
  for (const auto& layer : manifest.layers) json["layers"].push_back(to_json(layer));
  return dump(json);
}

std::string format_manifest_like(const ImageManifest& manifest, std::string_view old) {
  using OrderedJson = nlohmann::ordered_json;
  auto was = parse_document(old, Json::value_t::object);
  if (!was) return format_manifest(manifest);
  OrderedJson json = OrderedJson::parse(format_manifest(manifest));
  if (const Json* annotations = find_member(*was, "annotations")) json["annotations"] = *annotations;
  const Json* layers = find_member(*was, "layers");
  for (std::size_t i = 0; layers != nullptr && layers->is_array() && i < manifest.layers.size(); ++i) {
    if (i >= layers->size() || !(*layers)[i].is_object()) break;
    auto& layer = json["layers"][i];
    if (text_or_none((*layers)[i], "digest") != manifest.layers[i].digest.str()) continue;
    for (const auto& [key, value] : (*layers)[i].items())
      if (!layer.contains(key)) layer[key] = value;
  }
  return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

std::string to_oci_type(std::string_view type) {
  if (type == media::kDockerManifest) return std::string(media::kOciManifest);
  if (type == media::kDockerList) return std::string(media::kOciIndex);
  if (type == media::kDockerConfig) return std::string(media::kOciConfig);
  constexpr std::string_view kForeign = "application/vnd.docker.image.rootfs.foreign.diff.tar";
  for (std::string_view begin : {media::kDockerLayerTar, kForeign}) {
    if (!type.starts_with(begin)) continue;
    std::string oci(begin == kForeign ? "application/vnd.oci.image.layer.nondistributable.v1.tar"
                                      : media::kOciLayerTar);
    if (type.size() > begin.size()) oci += '+' + std::string(type.substr(begin.size() + 1));
    return oci;
  }
  return std::string(type);
}

bool is_foreign_layer_type(std::string_view type) {
  return type.find(".nondistributable.") != std::string_view::npos ||
         type.find(".foreign.") != std::string_view::npos;
}

Platform host_platform() {
  struct Machine {
    std::string_view uname;
    const char* architecture;
    const char* variant;
  };
  constexpr Machine kMachines[] = {
      {"x86_64", "amd64", ""},    {"aarch64", "arm64", ""},   {"armv7l", "arm", "v7"},
      {"armv8l", "arm", "v7"},    {"armv6l", "arm", "v6"},    {"i686", "386", ""},
      {"i586", "386", ""},        {"i386", "386", ""},        {"ppc64le", "ppc64le", ""},
      {"s390x", "s390x", ""},     {"riscv64", "riscv64", ""}, {"loongarch64", "loong64", ""},
      {"mips64", "mips64le", ""},
  };
  utsname name{};
  ::uname(&name);
  for (const auto& machine : kMachines)
    if (machine.uname == name.machine) return {"linux", machine.architecture, machine.variant};
  return {"linux", name.machine, ""};
}

namespace {

/// The variants of an architecture that a machine with the first runs, best first, as containers/image has them.
std::vector<std::string> variants_for(const Platform& wanted) {
  std::vector<std::string> order;
  if (wanted.architecture == "arm") order = {"v8", "v7", "v6", "v5"};
  if (wanted.architecture == "arm64") order = {"v8"};
  if (wanted.variant.empty()) {
    order.insert(order.begin(), "");
    return order;
  }
  auto from = std::ranges::find(order, wanted.variant);
  std::vector<std::string> variants(from, order.end());
  if (variants.empty()) variants.push_back(wanted.variant);
  variants.emplace_back();
  return variants;
}

}  // namespace

const Descriptor* choose_platform(const std::vector<Descriptor>& manifests, const Platform& wanted) {
  std::vector<std::string> variants = variants_for(wanted);
  const Descriptor* found = nullptr;
  std::size_t found_rank = variants.size() + 1;
  const Descriptor* without = nullptr;
  std::size_t without_count = 0;
  for (const auto& candidate : manifests) {
    if (!candidate.platform) {
      if (without_count++ == 0) without = &candidate;
      continue;
    }
    const Platform& has = *candidate.platform;
    if (has.os != wanted.os || has.architecture != wanted.architecture) continue;
    auto rank = static_cast<std::size_t>(std::ranges::find(variants, has.variant) - variants.begin());
    // A variant that nobody knows does where none was asked for.
    if ((rank == variants.size() && !wanted.variant.empty()) || rank >= found_rank) continue;
    found = &candidate;
    found_rank = rank;
  }
  if (found == nullptr && without_count == 1) return without;
  return found;
}

std::string platform_text(const Platform& platform) {
  std::string text = platform.os + "/" + platform.architecture;
  return platform.variant.empty() ? text : text + "/" + platform.variant;
}

Result<Platform> parse_platform(std::string_view text) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at <= text.size();) {
    std::size_t slash = std::min(text.find('/', at), text.size());
    parts.emplace_back(text.substr(at, slash - at));
    at = slash + 1;
  }
  bool whole = std::ranges::none_of(parts, [](const std::string& part) { return part.empty(); });
  if (!whole || parts.size() < 2 || parts.size() > 3)
    return invalid_error("platform", text, "not OS/ARCHITECTURE[/VARIANT]");
  return Platform{parts[0], parts[1], parts.size() == 3 ? parts[2] : ""};
}

}  // namespace layerfs::image
