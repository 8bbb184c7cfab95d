// SPDX-License-Identifier: Apache-2.0
#include "fs/image/importer.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "fs/base/bytes.h"
#include "fs/base/log.h"
#include "fs/base/sha256.h"
#include "fs/base/sys_file.h"
#include "fs/image/dir_source.h"
#include "fs/image/image_name.h"
#include "fs/image/image_source.h"
#include "fs/image/layer_import.h"
#include "fs/image/layer_pool.h"
#include "fs/image/registry_image.h"
#include "fs/image/whiteout_name.h"

namespace layerfs::image {

namespace {

enum class SourceKind : std::uint8_t {
  kRegistry,
  kOciLayout,
  kOciArchive,
  kDockerArchive,
  kTar,
  kDirectory,
  kStandardInput
};

struct SourceSpec {
  SourceKind kind;
  std::string path;
  std::string name;  ///< tag or reference within
};

Result<SourceSpec> parse_source(std::string_view text) {
  if (text == "-") return SourceSpec{SourceKind::kStandardInput, {}, {}};
  constexpr std::string_view kRegistryPrefix = "docker://";
  if (text.starts_with(kRegistryPrefix))
    return SourceSpec{SourceKind::kRegistry, std::string(text.substr(kRegistryPrefix.size())), {}};
  struct Transport {
    std::string_view prefix;
    SourceKind kind;
    bool takes_name;
  };
  constexpr Transport kTransports[] = {
      {"oci:", SourceKind::kOciLayout, true},
      {"oci-archive:", SourceKind::kOciArchive, true},
      {"docker-archive:", SourceKind::kDockerArchive, true},
      {"tar:", SourceKind::kTar, false},
      {"dir:", SourceKind::kDirectory, false},
  };
  for (const auto& transport : kTransports) {
    if (!text.starts_with(transport.prefix)) continue;
    std::string rest(text.substr(transport.prefix.size()));
    if (rest.empty()) return invalid_error("source", text, "no path in it");
    if (!transport.takes_name) return SourceSpec{transport.kind, rest, {}};
    // The path ends at the first colon, unless a file is there whose own name has colons.
    for (std::size_t colon = rest.find(':'); colon != std::string::npos; colon = rest.find(':', colon + 1)) {
      std::string path = rest.substr(0, colon);
      LAYERFS_ASSIGN(auto there, find_stat_at(AT_FDCWD, path, 0));
      if (there) return SourceSpec{transport.kind, path, rest.substr(colon + 1)};
    }
    LAYERFS_ASSIGN(auto there, find_stat_at(AT_FDCWD, rest, 0));
    if (there) return SourceSpec{transport.kind, rest, {}};
    std::size_t colon = std::min(rest.find(':'), rest.size());
    return SourceSpec{transport.kind, rest.substr(0, colon), rest.substr(std::min(colon + 1, rest.size()))};
  }
  return invalid_error("source", text,
                       "not one of docker://REF, oci:DIR[:TAG], oci-archive:FILE[:TAG], "
                       "docker-archive:FILE[:REF], tar:FILE, dir:PATH, -");
}

ImageChoice choice_of(const SourceSpec& spec, const ImportOptions& options) {
  ImageChoice choice = choice_of(options);
  choice.name = spec.name;
  return choice;
}

Result<SourceImage> open_archive_image(const SourceFiles& files, const SourceSpec& spec,
                                       const ImageChoice& choice) {
  std::string source_name = repository_name(spec.path);
  if (spec.kind == SourceKind::kOciArchive) return open_oci_layout(files, source_name, choice);
  // Since Docker 25 the archive is a layout too, which keeps the manifest; older readers' file may still know
  // names that the index does not.
  LAYERFS_ASSIGN(bool is_layout, has_oci_layout(files));
  if (is_layout) {
    auto image = open_oci_layout(files, source_name, choice);
    if (image || image.error().kind != ErrorKind::kInvalid) return image;
    LAYERFS_ASSIGN(auto older, files.find("manifest.json"));
    if (!older) return image;
  }
  return open_docker_archive(files, choice);
}

/// The references that the image gets. Errors: kInvalid where there is none.
Result<std::vector<std::string>> references_of(const std::vector<std::string>& names,
                                               const ImportOptions& options, std::string_view source) {
  std::vector<std::string> references;
  if (!options.name.empty()) {
    LAYERFS_ASSIGN(std::string reference, store::normalise_reference(options.name));
    references.push_back(std::move(reference));
    return references;
  }
  if (names.size() > options.limits.names)
    return invalid_error("source", source,
                         fmt::format("it has {} names for the image, more than {} (the limit can be raised)",
                                     names.size(), options.limits.names));
  std::unordered_set<std::string> seen;
  for (const auto& name : names) {
    auto reference = store::normalise_reference(name);
    if (!reference) {
      log_warning("'{}' is no valid reference and is left out", shown_name(name));
    } else if (seen.insert(*reference).second) {
      references.push_back(std::move(*reference));
    }
  }
  if (references.empty()) return invalid_error("source", source, "it has no name for the image: give one");
  return references;
}

/// Of the names that a source gives, those that stand for no other image. A name that the user gives is
/// refused instead, and said so.
Result<std::vector<std::string>> names_that_fit(std::vector<std::string> references, const Digest& manifest,
                                                const ImportOptions& options, std::string_view source) {
  for (auto at = references.begin(); at != references.end();) {
    auto checked = store::check_image_name(*at, manifest);
    if (!checked && !options.name.empty()) return std::unexpected(checked.error());
    if (checked) {
      ++at;
      continue;
    }
    log_warning("{}; left out", checked.error().message());
    at = references.erase(at);
  }
  if (references.empty()) return invalid_error("source", source, "it has no name for the image: give one");
  return references;
}

/// Writes documents and tree, and last the names: until then nothing is visible.
Result<store::ImageRecord> publish_image(store::Store& store, const SourceImage& image,
                                         const std::vector<store::ImageLayer>& layers,
                                         const std::vector<std::string>& references,
                                         const ImportLimits& limits) {
  std::vector<Digest> diff_ids;
  diff_ids.reserve(layers.size());
  for (const auto& layer : layers) diff_ids.push_back(layer.diff_id);
  LAYERFS_TRY(
      store.get_tree(diff_ids, {.nodes = limits.entries, .made_parents = limits.implied_directories}));
  for (const auto& [digest, bytes] : image.indexes) LAYERFS_TRY(store.put_blob(digest, bytes));
  LAYERFS_TRY(store.put_blob(image.config_digest, image.config));
  LAYERFS_TRY(store.put_blob(image.manifest_digest, image.manifest));
  store::ImageRecord record;
  record.manifest = image.manifest_digest;
  record.config = image.config_digest;
  record.chain = store::chain_id(diff_ids);
  record.layers = layers;
  record.imported_at = static_cast<std::int64_t>(std::time(nullptr));
  record.reference = references.front();
  LAYERFS_TRY(store.put_image_names(record, references));
  return record;
}

/// Makes the manifest of an image that came without one. Its layers are described uncompressed: that is
/// what the store can always give back, bit by bit.
void make_manifest(SourceImage& image, std::vector<store::ImageLayer>& layers, std::string_view manifest_type,
                   std::string_view config_type, std::string_view layer_type) {
  ImageManifest manifest;
  manifest.media_type = manifest_type;
  manifest.config = {std::string(config_type), image.config_digest, image.config.size(), {}, std::nullopt};
  for (auto& layer : layers) {
    layer.media_type = layer_type;
    manifest.layers.push_back({layer.media_type, layer.blob, layer.blob_size, {}, std::nullopt});
  }
  image.manifest = format_manifest(manifest);
  image.manifest_digest = sha256(image.manifest);
}

Result<store::ImageRecord> import_with_layers(store::Store& store, SourceImage image,
                                              const ImportOptions& options, std::string_view source) {
  LAYERFS_ASSIGN(auto references, references_of(image.names, options, source));
  // Before all the work, where the manifest is known: a name that is refused need not wait for its layers.
  if (!image.manifest.empty()) {
    LAYERFS_ASSIGN(references, names_that_fit(std::move(references), image.manifest_digest, options, source));
  }
  LAYERFS_TRY(import_missing_layers(store, image.layers, options));
  std::vector<store::ImageLayer> layers;
  for (const auto& layer : image.layers) {
    if (layer.descriptor) {
      layers.push_back(
          {layer.diff_id, layer.descriptor->digest, layer.descriptor->size, layer.descriptor->media_type});
    } else {
      LAYERFS_ASSIGN(auto stored, store.get_layer(layer.diff_id));
      layers.push_back({layer.diff_id, layer.diff_id, stored->info().tar_bytes, {}});
    }
  }
  if (image.manifest.empty())
    make_manifest(image, layers, media::kDockerManifest, media::kDockerConfig, media::kDockerLayerTar);
  LAYERFS_ASSIGN(references, names_that_fit(std::move(references), image.manifest_digest, options, source));
  return publish_image(store, image, layers, references, options.limits);
}

// ---- sources that are one root file system

std::string iso_time(std::int64_t seconds) {
  std::time_t clamped = std::clamp<std::time_t>(seconds, 0, std::time(nullptr));
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(clamped));
}

/// A config that says no more than what is known. Its time is the newest entry's, so that the same tree
/// imported again is the same image.
std::string make_config(const ImportedLayer& layer, const ImageChoice& choice, std::string_view comment) {
  std::string created = iso_time(layer.newest.seconds);
  nlohmann::json config = {
      {"created", created},
      {"architecture", choice.platform.architecture},
      {"os", choice.platform.os},
      {"config", nlohmann::json::object()},
      {"rootfs", {{"type", "layers"}, {"diff_ids", {layer.info.diff_id.str()}}}},
      {"history", {{{"created", created}, {"created_by", "layerfs import"}, {"comment", comment}}}},
  };
  if (!choice.platform.variant.empty()) config["variant"] = choice.platform.variant;
  return config.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

Result<void> report(const ImportOptions& options, std::uint64_t done, std::uint64_t total,
                    std::size_t layers_done) {
  if (!options.progress) return {};
  return options.progress({done, total, layers_done, 1});
}

Result<ImportedLayer> import_directory(store::Store& store, const std::string& path,
                                       const ImportOptions& options) {
  std::uint64_t done = 0;
  return import_layer(store, options.limits, TarEnd::kMarked, std::nullopt, [&](ChunkRing& ring) {
    return write_directory_tar(path, [&](std::string_view bytes) -> Result<void> {
      done += bytes.size();
      LAYERFS_TRY(report(options, done, 0, 0));
      return ring.write(as_bytes(bytes));
    });
  });
}

/// `fd`: a file, or whatever standard input is.
Result<ImportedLayer> import_tar(store::Store& store, int fd, const ImportOptions& options) {
  LAYERFS_ASSIGN(struct stat st, stat_fd(fd));
  if (S_ISDIR(st.st_mode)) return system_error(EISDIR, "read");
  std::uint64_t total = S_ISREG(st.st_mode) ? static_cast<std::uint64_t>(st.st_size) : 0;
  StreamSource source(fd);
  BlobWatch watch;
  watch.report = [&](std::uint64_t done) { return report(options, done, total, 0); };
  return import_layer(store, options.limits, TarEnd::kMarked, std::nullopt,
                      [&](ChunkRing& ring) { return produce_blob(source, watch, options.limits, ring); });
}

Result<store::ImageRecord> import_root(store::Store& store, const SourceSpec& spec,
                                       const ImportOptions& options, std::string_view source) {
  std::vector<std::string> names;
  if (std::string name = repository_name(spec.path); !name.empty()) names.push_back(name);
  LAYERFS_ASSIGN(auto references, references_of(names, options, source));

  auto layer = [&]() -> Result<ImportedLayer> {
    if (spec.kind == SourceKind::kDirectory) return import_directory(store, spec.path, options);
    if (spec.kind == SourceKind::kStandardInput) return import_tar(store, STDIN_FILENO, options);
    LAYERFS_ASSIGN(Fd fd, open_file(spec.path, O_RDONLY));
    return import_tar(store, fd.get(), options);
  }();
  if (!layer) return with_context(layer.error(), "import", source);
  LAYERFS_TRY(report(options, layer->info.tar_bytes, layer->info.tar_bytes, 1));

  SourceImage image;
  image.config = make_config(*layer, choice_of(spec, options),
                             spec.kind == SourceKind::kDirectory ? "from a directory" : "from a tar");
  image.config_digest = sha256(image.config);
  const Digest& diff_id = layer->info.diff_id;
  std::vector<store::ImageLayer> layers = {{diff_id, diff_id, layer->info.tar_bytes, {}}};
  make_manifest(image, layers, media::kOciManifest, media::kOciConfig, media::kOciLayerTar);
  LAYERFS_ASSIGN(references, names_that_fit(std::move(references), image.manifest_digest, options, source));
  return publish_image(store, image, layers, references, options.limits);
}

}  // namespace

ImageChoice choice_of(const ImportOptions& options) {
  ImageChoice choice;
  choice.platform = host_platform();
  choice.platform.os = options.platform_os;
  if (!options.platform_architecture.empty()) {
    choice.platform.architecture = options.platform_architecture;
    choice.platform.variant = options.platform_variant;
    choice.platform_given = true;
  }
  return choice;
}

Result<store::ImageRecord> import_source_image(store::Store& store, SourceImage image,
                                               const ImportOptions& options, std::string_view source) {
  // Held to the end: what is written and not yet named is safe from gc.
  LAYERFS_ASSIGN(auto lease, store.lease());
  auto imported = import_with_layers(store, std::move(image), options, source);
  if (!imported) return with_context(imported.error(), "import", source);
  return imported;
}

Result<store::ImageRecord> import_image(store::Store& store, std::string_view source,
                                        const ImportOptions& options) {
  LAYERFS_ASSIGN(SourceSpec spec, parse_source(source));
  // Held to the end: what is written and not yet named is safe from gc.
  LAYERFS_ASSIGN(auto lease, store.lease());
  if (spec.kind == SourceKind::kTar || spec.kind == SourceKind::kDirectory ||
      spec.kind == SourceKind::kStandardInput)
    return import_root(store, spec, options, source);

  ImageChoice choice = choice_of(spec, options);
  std::unique_ptr<RegistryImages> registries;  // outlives the layers' readers
  auto image = [&]() -> Result<SourceImage> {
    if (spec.kind == SourceKind::kRegistry) {
      LAYERFS_ASSIGN(auto reference, registry::parse_reference(spec.path, registry::ShortNames::kDockerHub));
      LAYERFS_ASSIGN(registries, RegistryImages::make(options.access));
      return registries->open_image(reference, choice);
    }
    if (spec.kind == SourceKind::kOciLayout) {
      LAYERFS_ASSIGN(auto files, open_directory_files(spec.path));
      return open_oci_layout(*files, repository_name(spec.path), choice);
    }
    LAYERFS_ASSIGN(auto files, open_archive_files(spec.path, store.root(), options.limits));
    return open_archive_image(*files, spec, choice);
  }();
  if (!image) return with_context(image.error(), "import", source);
  auto imported = import_with_layers(store, std::move(*image), options, source);
  if (!imported) return with_context(imported.error(), "import", source);
  return imported;
}

Result<store::LayerInfo> add_layer_from_tar(store::Store& store,
                                            const std::function<Result<void>(const TarSink&)>& produce,
                                            const ImportLimits& limits) {
  LAYERFS_ASSIGN(auto lease, store.lease());
  std::uint64_t total = 0;
  auto imported = import_layer(store, limits, TarEnd::kMarked, std::nullopt, [&](ChunkRing& ring) {
    return produce([&](std::string_view bytes) -> Result<void> {
      total += bytes.size();
      if (total > limits.layer_bytes)
        return invalid_error("layer size", fmt::format("{}", total),
                             fmt::format("more than {} bytes (the limit can be raised)", limits.layer_bytes));
      return ring.write(as_bytes(bytes));
    });
  });
  if (!imported) return std::unexpected(imported.error());
  return imported->info;
}

}  // namespace layerfs::image
