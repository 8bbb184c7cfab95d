// SPDX-License-Identifier: Apache-2.0
#include "fs/image/exporter.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fs/base/fd.h"
#include "fs/base/scope_exit.h"
#include "fs/base/sha256.h"
#include "fs/base/sys_file.h"
#include "fs/image/archive_writer.h"
#include "fs/image/layer_stream.h"
#include "fs/image/manifest.h"
#include "fs/image/oci_layout_writer.h"
#include "fs/image/registry_push.h"
#include "fs/image/tree_export.h"

namespace layerfs::image {

namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr std::string_view kRegistryTransport = "docker://";

struct Destination {
  std::string transport;
  std::string path;
  std::string name;  ///< TAG or REF; empty: not given
};

Result<Destination> parse_destination(std::string_view text) {
  std::size_t colon = text.find(':');
  Destination result;
  result.transport = text.substr(0, colon);
  bool known = result.transport == "oci" || result.transport == "oci-archive" ||
               result.transport == "docker-archive" || result.transport == "tar";
  if (colon == std::string_view::npos || !known)
    return invalid_error(
        "export to", text,
        "not docker://REF, oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:REF] or tar:FILE");
  result.path = text.substr(colon + 1);
  // The path ends at the first colon, as for Podman and Skopeo; a tar's path is all there is.
  if (result.transport != "tar") {
    std::size_t name_at = result.path.find(':');
    if (name_at != std::string::npos) {
      result.name = result.path.substr(name_at + 1);
      result.path.resize(name_at);
      if (result.name.empty()) return invalid_error("export to", text, "an empty name after the path");
    }
  }
  if (result.path.empty()) return invalid_error("export to", text, "no path");
  return result;
}

/// "latest" of "localhost/busybox:latest"; an image without a name has "latest".
std::string tag_of(const std::string& reference) {
  std::size_t colon = reference.rfind(':');
  if (colon == std::string::npos || reference.find('/', colon) != std::string::npos) return "latest";
  if (reference.find('@') != std::string::npos) return "latest";
  return reference.substr(colon + 1);
}

/// What export_image() was asked for, and how far it is.
struct Export {
  store::Store& store;
  const store::ImageRecord& image;
  const ExportOptions& options;
  Compression compression;
  ExportProgress progress;

  Result<void> report(std::size_t bytes) {
    progress.bytes_done += bytes;
    if (!options.progress) return {};
    return options.progress(progress);
  }
};

/// One image on its way into an ImageOutput.
class ImageExport {
 public:
  ImageExport(Export& asked, ImageOutput& output)
      : export_(asked), store_(asked.store), image_(asked.image), output_(output) {}

  /// Blobs, config and manifest; the manifest's descriptor.
  Result<Descriptor> write() {
    for (const auto& layer : image_.layers) {
      LAYERFS_ASSIGN(auto stored, store_.get_layer(layer.diff_id));
      export_.progress.bytes_total += stored->info().tar_bytes;
    }
    for (const auto& layer : image_.layers) {
      LAYERFS_ASSIGN(Descriptor descriptor, write_layer(layer));
      layers_.push_back(std::move(descriptor));
    }
    LAYERFS_ASSIGN(std::string config, store_.get_blob(image_.config));
    LAYERFS_ASSIGN(config_.digest, output_.put_blob(config));
    config_.media_type = media::kOciConfig;
    config_.size = config.size();
    LAYERFS_ASSIGN(ImageConfig parsed, parse_image_config(config));

    LAYERFS_ASSIGN(std::string manifest, make_manifest());
    Descriptor result;
    result.media_type = media::kOciManifest;
    result.size = manifest.size();
    result.platform = parsed.platform;
    LAYERFS_ASSIGN(result.digest, output_.put_blob(manifest));
    return result;
  }

  const Descriptor& config() const { return config_; }
  const std::vector<Descriptor>& layers() const { return layers_; }

 private:
  Result<Descriptor> write_layer(const store::ImageLayer& layer) {
    auto done = written_.find(layer.diff_id);
    LAYERFS_ASSIGN(auto stored, store_.get_layer(layer.diff_id));
    if (done != written_.end()) {
      LAYERFS_TRY(export_.report(stored->info().tar_bytes));
      return done->second;
    }
    Descriptor descriptor;
    descriptor.media_type = layer_media_type(export_.compression);
    Sha256 hash;
    LAYERFS_TRY(output_.begin_blob());
    ByteSink sink = [&](std::string_view bytes) {
      hash.update(bytes);
      descriptor.size += bytes.size();
      return output_.write(bytes);
    };
    EncoderOptions options{
        .compression = export_.compression, .level = export_.options.level, .size = stored->info().tar_bytes};
    LAYERFS_ASSIGN(auto encoder, make_encoder(options, sink));
    auto take = [&](std::string_view bytes) -> Result<void> {
      LAYERFS_TRY(export_.report(bytes.size()));
      return encoder->write(bytes);
    };
    LAYERFS_TRY(stream_layer(store_, layer.diff_id, take));
    LAYERFS_TRY(encoder->finish());
    descriptor.digest = hash.finish();
    LAYERFS_TRY(output_.end_blob(descriptor.digest));
    written_.emplace(layer.diff_id, descriptor);
    return descriptor;
  }

  /// The stored manifest where it says the same, else a new one with the stored one's annotations.
  Result<std::string> make_manifest() {
    ImageManifest manifest{std::string(media::kOciManifest), config_, layers_};
    LAYERFS_ASSIGN(std::string text, store_.get_blob(image_.manifest));
    auto old = parse_manifest(text);
    if (old && old->media_type == media::kOciManifest && same_blobs(*old)) return text;
    return format_manifest_like(manifest, text);
  }

  bool same_blobs(const ImageManifest& old) const {
    if (old.config.digest != config_.digest || old.layers.size() != layers_.size()) return false;
    for (std::size_t i = 0; i < layers_.size(); ++i)
      if (old.layers[i].digest != layers_[i].digest || old.layers[i].media_type != layers_[i].media_type)
        return false;
    return true;
  }

  Export& export_;
  store::Store& store_;
  const store::ImageRecord& image_;
  ImageOutput& output_;
  Descriptor config_;
  std::vector<Descriptor> layers_;
  std::unordered_map<Digest, Descriptor> written_;
};

Result<void> export_layout(Export& asked, const Destination& to) {
  LAYERFS_ASSIGN(auto output, OciLayoutWriter::open(to.path));
  ImageExport image_export(asked, *output);
  LAYERFS_ASSIGN(Descriptor manifest, image_export.write());
  LAYERFS_TRY(output->put_index_entry(manifest, to.name.empty() ? tag_of(asked.image.reference) : to.name));
  return output->finish();
}

/// manifest.json and repositories, as `docker load` reads them.
Result<void> put_docker_documents(const ImageExport& image, const std::string& reference,
                                  ImageOutput& output) {
  OrderedJson layers = OrderedJson::array();
  for (const auto& layer : image.layers()) layers.push_back(blob_path(layer.digest));
  OrderedJson tags = OrderedJson::array();
  OrderedJson repositories = OrderedJson::object();
  if (!reference.empty()) {
    tags.push_back(reference);
    std::string tag = tag_of(reference);
    if (reference.ends_with(':' + tag)) {
      std::string repository = reference.substr(0, reference.size() - tag.size() - 1);
      repositories[repository][tag] = image.layers().empty() ? "" : image.layers().back().digest.hex();
    }
  }
  OrderedJson entry = {{"Config", blob_path(image.config().digest)}, {"RepoTags", tags}, {"Layers", layers}};
  OrderedJson manifest = OrderedJson::array();
  manifest.push_back(std::move(entry));
  auto text_of = [](const OrderedJson& json) {
    return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
  };
  LAYERFS_TRY(output.put_document("manifest.json", text_of(manifest)));
  return output.put_document("repositories", text_of(repositories));
}

Result<void> export_archive(Export& asked, const Destination& to) {
  bool docker = to.transport == "docker-archive";
  std::string reference = asked.image.reference;
  if (docker && !to.name.empty()) {
    LAYERFS_ASSIGN(reference, store::normalise_reference(to.name));
  }
  LAYERFS_ASSIGN(auto output, make_archive_writer(to.path));
  ImageExport image_export(asked, *output);
  LAYERFS_ASSIGN(Descriptor manifest, image_export.write());
  std::string tag = docker || to.name.empty() ? tag_of(reference) : to.name;
  manifest.annotations.emplace(kRefNameAnnotation, tag);
  if (docker && !reference.empty()) manifest.annotations.emplace(kContainerdNameAnnotation, reference);
  ImageIndex index{{manifest}};
  LAYERFS_TRY(output->put_document("index.json", format_index(index)));
  if (docker) LAYERFS_TRY(put_docker_documents(image_export, reference, *output));
  LAYERFS_TRY(output->put_document("oci-layout", kLayoutMark));
  return output->finish();
}

Result<void> write_tree(Export& asked, const ByteSink& sink) {
  std::vector<Digest> diff_ids;
  diff_ids.reserve(asked.image.layers.size());
  for (const auto& layer : asked.image.layers) diff_ids.push_back(layer.diff_id);
  LAYERFS_ASSIGN(auto tree, asked.store.get_tree(diff_ids));
  EncoderOptions options{.compression = asked.compression, .level = asked.options.level, .size = {}};
  LAYERFS_ASSIGN(auto encoder, make_encoder(options, sink));
  // Headers are small and many: gathered, they cost one write(2) for a few hundred entries.
  constexpr std::size_t kBuffer = 256 * 1024;
  std::string buffer;
  auto flush = [&]() -> Result<void> {
    auto result = encoder->write(buffer);
    buffer.clear();
    return result;
  };
  auto gather = [&](std::string_view bytes) -> Result<void> {
    LAYERFS_TRY(asked.report(bytes.size()));
    if (buffer.size() + bytes.size() > kBuffer) LAYERFS_TRY(flush());
    if (bytes.size() > kBuffer) return encoder->write(bytes);
    buffer += bytes;
    return {};
  };
  LAYERFS_TRY(write_tree_tar(*tree, asked.store.objects(), gather));
  LAYERFS_TRY(flush());
  return encoder->finish();
}

Result<void> export_tar(Export& asked, const Destination& to) {
  auto write_to = [&](int fd) {
    return write_tree(asked, [&, fd](std::string_view bytes) -> Result<void> {
      if (auto written = write_full(fd, std::as_bytes(std::span(bytes))); !written)
        return with_context(std::move(written).error(), "write", to.path);
      return {};
    });
  };
  if (to.path == "-") return write_to(STDOUT_FILENO);
  LAYERFS_ASSIGN(auto there, find_stat_at(AT_FDCWD, to.path, 0));
  if (there && S_ISDIR(there->st_mode)) return system_error(EISDIR, "write", to.path);
  if (there && !S_ISREG(there->st_mode)) {  // a fifo or a device: nothing to rename over
    LAYERFS_ASSIGN(Fd file, open_file(to.path, O_WRONLY));
    return write_to(file.get());
  }
  std::string temp = fmt::format("{}.layerfs-{}", to.path, ::getpid());
  LAYERFS_ASSIGN(Fd file, open_file(temp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0644));
  ScopeExit remove_temp([&] { ::unlink(temp.c_str()); });
  LAYERFS_TRY(write_to(file.get()));
  LAYERFS_TRY(sync_data(file.get()));
  LAYERFS_TRY(rename_file(temp, to.path));
  remove_temp.release();
  return {};
}

}  // namespace

Result<void> export_image(store::Store& store, const store::ImageRecord& image, std::string_view destination,
                          const ExportOptions& options) {
  if (destination.starts_with(kRegistryTransport)) {
    LAYERFS_ASSIGN(auto reference, registry::parse_reference(destination.substr(kRegistryTransport.size()),
                                                             registry::ShortNames::kDockerHub));
    LAYERFS_TRY(push_image(store, image, reference, options));
    return {};
  }
  LAYERFS_ASSIGN(Destination to, parse_destination(destination));
  bool compressed = to.transport == "oci" || to.transport == "oci-archive";
  Export asked{store,
               image,
               options,
               options.compression.value_or(compressed ? Compression::kGzip : Compression::kNone),
               {}};
  Result<void> result;
  if (to.transport == "oci") {
    result = export_layout(asked, to);
  } else if (to.transport == "tar") {
    result = export_tar(asked, to);
  } else {
    result = export_archive(asked, to);
  }
  if (!result) return with_context(std::move(result).error(), "export to", destination);
  return {};
}

}  // namespace layerfs::image
