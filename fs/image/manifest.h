// SPDX-License-Identifier: Apache-2.0
// Index, manifest and config of an image as values (OCI image-spec 1.1, and the Docker types that mean the
// same), parsed from and printed to JSON. Pure; any thread.
//
// (1) Parsing is total: whatever the bytes, a value or kInvalid / kUnsupported with the field's name.
// (2) A digest or size that is parsed here is a claim; whoever reads the blob verifies it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/digest.h"
#include "fs/base/result.h"
#include "fs/image/compress.h"

namespace layerfs::image {

namespace media {
inline constexpr std::string_view kOciIndex = "application/vnd.oci.image.index.v1+json";
inline constexpr std::string_view kOciManifest = "application/vnd.oci.image.manifest.v1+json";
inline constexpr std::string_view kOciConfig = "application/vnd.oci.image.config.v1+json";
inline constexpr std::string_view kOciLayerTar = "application/vnd.oci.image.layer.v1.tar";
inline constexpr std::string_view kOciLayerGzip = "application/vnd.oci.image.layer.v1.tar+gzip";
inline constexpr std::string_view kOciLayerZstd = "application/vnd.oci.image.layer.v1.tar+zstd";
inline constexpr std::string_view kDockerList = "application/vnd.docker.distribution.manifest.list.v2+json";
inline constexpr std::string_view kDockerManifest = "application/vnd.docker.distribution.manifest.v2+json";
inline constexpr std::string_view kDockerConfig = "application/vnd.docker.container.image.v1+json";
inline constexpr std::string_view kDockerLayerTar = "application/vnd.docker.image.rootfs.diff.tar";
inline constexpr std::string_view kDockerLayerGzip = "application/vnd.docker.image.rootfs.diff.tar.gzip";
inline constexpr std::string_view kDockerLayerZstd = "application/vnd.docker.image.rootfs.diff.tar.zstd";
}  // namespace media

bool is_index_type(std::string_view media_type);
bool is_manifest_type(std::string_view media_type);
bool is_config_type(std::string_view media_type);
/// Plain, gzip and zstd tars of either family, non-distributable ones too.
bool is_layer_type(std::string_view media_type);

/// What a layer's type says of it.
Compression layer_compression(std::string_view media_type);
/// The OCI's type of a layer.
std::string_view layer_media_type(Compression compression);

/// Annotations that name an image in an index.
inline constexpr std::string_view kRefNameAnnotation = "org.opencontainers.image.ref.name";
inline constexpr std::string_view kContainerdNameAnnotation = "io.containerd.image.name";

/// No manifest, index or config may be longer.
inline constexpr std::uint64_t kMaxDocument = std::uint64_t{8} << 20;
/// More layers than any tool makes; bounds what a manifest can ask for.
inline constexpr std::size_t kMaxLayers = 4096;

struct Platform {
  std::string os;
  std::string architecture;  ///< Go's names: amd64, arm64...
  std::string variant;
  bool operator==(const Platform&) const = default;
};

struct Descriptor {
  std::string media_type;
  Digest digest;
  std::uint64_t size = 0;
  std::map<std::string, std::string> annotations;
  std::optional<Platform> platform;
  bool has_urls = false;  ///< it names other places that have the blob
  bool operator==(const Descriptor&) const = default;
};

struct ImageIndex {
  std::vector<Descriptor> manifests;
  bool operator==(const ImageIndex&) const = default;
};

struct ImageManifest {
  std::string media_type;
  Descriptor config;
  std::vector<Descriptor> layers;  ///< lowest first
  bool operator==(const ImageManifest&) const = default;
};

/// What import needs of a config; the bytes themselves are kept as they came. `history` is optional
/// (image-spec, config.md) and nothing depends on it: images whose steps are fewer or more than their layers
/// are common.
struct ImageConfig {
  Platform platform;
  std::vector<Digest> diff_ids;  ///< lowest first
};

/// One image of a docker-archive's manifest.json. Paths are of the archive.
struct ArchiveImage {
  std::string config;
  std::vector<std::string> repo_tags;
  std::vector<std::string> layers;
};

/// The document's own `mediaType`; "" where it has none, or is no JSON object.
std::string media_type_of(std::string_view json);
Result<ImageIndex> parse_index(std::string_view json);
/// Errors: kUnsupported for Docker's schema 1 and for artifacts whose config is no image's.
Result<ImageManifest> parse_manifest(std::string_view json);
Result<ImageConfig> parse_image_config(std::string_view json);
Result<std::vector<ArchiveImage>> parse_archive_manifest(std::string_view json);

/// Canonical JSON: keys sorted, no blanks, so that the same value has the same digest.
std::string format_index(const ImageIndex& index);
std::string format_manifest(const ImageManifest& manifest);
/// The same for an image that had the manifest `old`: with its annotations, and with all that it says of layers that
/// are the same blob still.
std::string format_manifest_like(const ImageManifest& manifest, std::string_view old);
/// The OCI's word for one of Docker's types; others as they are.
std::string to_oci_type(std::string_view media_type);
/// Layers that are not for everybody to hand on, and may be fetched from `urls` alone.
bool is_foreign_layer_type(std::string_view media_type);

/// This machine's architecture and variant in Go's names, with linux.
Platform host_platform();
/// The entry of `manifests` for `wanted` (empty variant: any, one without variant first; of arm v8 before v7, v6 and v5,
/// and none that is newer than a wanted one); nullptr: none.
/// Entries without a platform count where no other fits and there is only one of them.
const Descriptor* choose_platform(const std::vector<Descriptor>& manifests, const Platform& wanted);
/// "linux/arm64/v8".
std::string platform_text(const Platform& platform);
/// Errors: kInvalid where it is not OS/ARCH[/VARIANT].
Result<Platform> parse_platform(std::string_view text);

}  // namespace layerfs::image
