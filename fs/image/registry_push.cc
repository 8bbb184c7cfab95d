// SPDX-License-Identifier: Apache-2.0
#include "fs/image/registry_push.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fs/base/log.h"
#include "fs/base/sha256.h"
#include "fs/image/layer_blob.h"
#include "fs/image/layer_workers.h"
#include "fs/image/manifest.h"

namespace layerfs::image {

namespace {

using registry::Reference;
using registry::Repository;

/// A document as the bytes of a blob.
class TextBytes final : public registry::BlobBytes {
 public:
  explicit TextBytes(std::string_view text) : left_(text) {}
  Result<std::size_t> read(std::span<std::byte> buffer) override {
    std::size_t size = std::min(buffer.size(), left_.size());
    std::memcpy(buffer.data(), left_.data(), size);
    left_.remove_prefix(size);
    return size;
  }

 private:
  std::string_view left_;
};

/// Which of the registry's other repositories have a blob, as far as the store knows: images that bear a name there
/// have their layers there, and what was pushed there is remembered.
class MountSources {
 public:
  static Result<MountSources> find(store::Store& store, const store::ImageRecord& image,
                                   const Reference& to) {
    MountSources sources;
    LAYERFS_ASSIGN(auto images, store.list_images());
    for (const auto& other : images) {
      auto name = registry::parse_reference(other.reference, registry::ShortNames::kRefused);
      if (!name || name->host != to.host || name->path == to.path) continue;
      for (const auto& layer : other.layers)
        if (std::ranges::find(image.layers, layer.diff_id, &store::ImageLayer::diff_id) != image.layers.end())
          sources.add(layer.blob, name->path);
    }
    for (const auto& layer : image.layers) {
      LAYERFS_ASSIGN(auto sent, store.sent_blobs(layer.diff_id));
      for (const auto& blob : sent)
        if (blob.repository.starts_with(to.host + '/') && blob.repository != to.name())
          sources.add(blob.digest, blob.repository.substr(to.host.size() + 1));
    }
    return sources;
  }

  const std::vector<std::string>& repositories() const { return repositories_; }
  std::vector<std::string> of(const Digest& blob) const {
    auto found = by_blob_.find(blob);
    return found == by_blob_.end() ? std::vector<std::string>{} : found->second;
  }

 private:
  void add(const Digest& blob, const std::string& path) {
    if (std::ranges::find(repositories_, path) == repositories_.end()) {
      if (repositories_.size() == kMaxMountSources) return;
      repositories_.push_back(path);
    }
    auto& paths = by_blob_[blob];
    if (std::ranges::find(paths, path) == paths.end()) paths.push_back(path);
  }

  std::vector<std::string> repositories_;
  std::unordered_map<Digest, std::vector<std::string>> by_blob_;
};

/// The push of one image. The calling thread reports and watches, others send.
class ImagePush {
 public:
  ImagePush(store::Store& store, const store::ImageRecord& image, const Reference& to,
            const ExportOptions& options, const MountSources& mounts, Repository& repository)
      : store_(store), image_(image), to_(to), options_(options), mounts_(mounts), repository_(repository) {}

  Result<PushedImage> run() {
    if (!to_.digest.empty() && to_.digest != image_.manifest.str())
      return invalid_error("digest", to_.digest,
                           fmt::format("the image's manifest is {}", image_.manifest.str()));
    if (!to_.digest.empty() && options_.compression)
      return invalid_error("--compression", {}, "not with a digest: layers go as they came");
    LAYERFS_ASSIGN(manifest_text_, store_.get_blob(image_.manifest));
    if (auto manifest = parse_manifest(manifest_text_);
        manifest && manifest->layers.size() == image_.layers.size())
      manifest_ = std::move(*manifest);
    LAYERFS_TRY(choose());
    LAYERFS_TRY(push_layers());
    LAYERFS_ASSIGN(std::string config, store_.get_blob(image_.config));
    std::string type;
    std::string manifest = make_manifest(config, type);
    pushed_.manifest = sha256(manifest);
    if (!to_.digest.empty() && to_.digest != pushed_.manifest.str())
      return invalid_error("digest", to_.digest,
                           fmt::format("the manifest is {} now", pushed_.manifest.str()));
    LAYERFS_TRY(
        registry::upload_blob(repository_, {.open = [&]() -> Result<std::unique_ptr<registry::BlobBytes>> {
                                return std::make_unique<TextBytes>(config);
                              }}));
    LAYERFS_TRY(repository_.put_manifest(to_.tag.empty() ? to_.digest : to_.tag, type, manifest));
    return pushed_;
  }

 private:
  /// The same files may be in an image twice, as different blobs.
  using LayerKey = std::pair<std::string, std::string>;
  static LayerKey key_of(const store::ImageLayer& layer) { return {layer.diff_id.str(), layer.blob.str()}; }
  struct Job {
    const store::ImageLayer* layer;
    std::uint64_t tar_bytes;
  };

  Result<void> choose() {
    std::set<LayerKey> seen;
    for (const auto& layer : image_.layers) {
      if (!seen.insert(key_of(layer)).second) continue;
      LAYERFS_ASSIGN(auto stored, store_.get_layer(layer.diff_id));
      jobs_.push_back({&layer, stored->info().tar_bytes});
      progress_.bytes_total += stored->info().tar_bytes;
    }
    // The largest layer first, or the others would wait for it in the end.
    std::ranges::stable_sort(jobs_, std::greater<>(), &Job::tar_bytes);
    return {};
  }

  Result<void> push_layers() {
    return workers_.run(jobs_.size(), kMaxPushes,
                        {.work = [this](std::size_t index) { return push_layer(jobs_[index]); },
                         .explain = [](std::size_t, Error error) { return error; },
                         .report = [this] { return report(); }});
  }

  Result<void> report() {
    if (!options_.progress) return {};
    progress_.bytes_done = bytes_done_;
    return options_.progress(progress_);
  }

  Result<void> push_layer(const Job& job) {
    const store::ImageLayer& layer = *job.layer;
    Descriptor original = original_of(layer);
    LAYERFS_ASSIGN(auto there, find_there(layer, original));
    if (there) {
      bytes_done_ += job.tar_bytes;
      return note(layer, original, *there, /*was_sent=*/false);
    }
    std::atomic<std::uint64_t> counted = 0;  // by the thread of the blob
    auto open = [&]() -> Result<std::unique_ptr<registry::BlobBytes>> {
      bytes_done_ -= counted.exchange(0);  // it begins anew
      return std::make_unique<LayerBlob>(
          store_, layer.diff_id, EncoderOptions{.compression = made_of(original), .level = options_.level},
          [this, &counted](std::uint64_t bytes) -> Result<void> {
            counted += bytes;
            bytes_done_ += bytes;
            return workers_.stop() ? Result<void>(errno_error(ECANCELED)) : Result<void>{};
          });
    };
    registry::UploadOptions upload{.open = open, .stop = &workers_.stop()};
    if (!to_.digest.empty()) upload.expected = original.digest;
    auto sent = registry::upload_blob(repository_, upload);
    if (!sent) return with_context(sent.error(), "push layer", layer.diff_id.str());
    Descriptor made;
    made.media_type = layer_media_type(made_of(original));
    made.digest = sent->digest;
    made.size = sent->size;
    if (made.digest == original.digest) made = original;
    remember(layer, {form_of(original), sent->digest, sent->size, to_.name()});
    return note(layer, original, made, !sent->was_there);
  }

  /// The blob that the registry has of the layer, or is made to have without being sent it. nullopt: none.
  Result<std::optional<Descriptor>> find_there(const store::ImageLayer& layer, const Descriptor& original) {
    if (made_of(original) == layer_compression(original.media_type) || !options_.compression) {
      LAYERFS_ASSIGN(bool there, is_there(original.digest, original.size));
      // What may not be handed on is fetched from where the manifest says.
      if (there || (is_foreign_layer_type(original.media_type) && original.has_urls)) return original;
    }
    LAYERFS_ASSIGN(auto sent, store_.sent_blobs(layer.diff_id));
    std::ranges::reverse(sent);
    std::vector<Digest> asked{original.digest};
    for (const auto& blob : sent) {
      bool is_other = std::ranges::find(asked, blob.digest) == asked.end();
      if (blob.form != form_of(original) || !is_other || !to_.digest.empty()) continue;
      asked.push_back(blob.digest);
      LAYERFS_ASSIGN(bool there, is_there(blob.digest, blob.size));
      if (!there) continue;
      Descriptor made;
      made.media_type = layer_media_type(made_of(original));
      made.digest = blob.digest;
      made.size = blob.size;
      remember(layer, {blob.form, blob.digest, blob.size, to_.name()});
      return made;
    }
    return std::nullopt;
  }

  Result<bool> is_there(const Digest& digest, std::uint64_t size) {
    LAYERFS_ASSIGN(bool there, repository_.has_blob(digest, size, &workers_.stop()));
    for (const auto& from : mounts_.of(digest)) {
      if (there) break;
      LAYERFS_ASSIGN(there, repository_.mount_blob(digest, from, &workers_.stop()));
    }
    return there;
  }

  /// A failure of this costs a later push time, and this one nothing.
  void remember(const store::ImageLayer& layer, const store::SentBlob& blob) {
    if (auto done = store_.remember_sent_blob(layer.diff_id, blob); !done)
      log_line(LogLevel::kInfo, done.error().message());
  }

  Result<void> note(const store::ImageLayer& layer, const Descriptor& original, const Descriptor& now,
                    bool was_sent) {
    std::lock_guard lock(mutex_);
    layers_[key_of(layer)] = now;
    ++(was_sent ? pushed_.layers_sent : pushed_.layers_present);
    bool was_compressed = layer_compression(original.media_type) != Compression::kNone;
    if (was_compressed && now.digest != original.digest) ++pushed_.layers_changed;
    return {};
  }

  /// What the manifest says of the layer.
  Descriptor original_of(const store::ImageLayer& layer) const {
    for (std::size_t i = 0; manifest_ && i < image_.layers.size(); ++i)
      if (image_.layers[i].diff_id == layer.diff_id && manifest_->layers[i].digest == layer.blob)
        return manifest_->layers[i];
    Descriptor descriptor;
    descriptor.media_type = layer.media_type;
    descriptor.digest = layer.blob;
    descriptor.size = layer.blob_size;
    return descriptor;
  }

  Compression made_of(const Descriptor& original) const {
    Compression had = layer_compression(original.media_type);
    if (!to_.digest.empty()) return had;
    if (options_.compression) return *options_.compression;
    return had == Compression::kNone ? Compression::kGzip : had;
  }
  std::string form_of(const Descriptor& original) const {
    const Compression made = made_of(original);
    const int level = made == Compression::kNone ? 0 : options_.level;
    return fmt::format("{}:{}", compression_name(made), level);
  }

  /// The stored manifest where all it names is the same blob still. `type`: its media type.
  std::string make_manifest(std::string_view config, std::string& type) {
    std::vector<Descriptor> layers;
    layers.reserve(image_.layers.size());
    for (const auto& layer : image_.layers) layers.push_back(layers_.at(key_of(layer)));
    bool is_same = manifest_ && manifest_->config.digest == image_.config;
    for (std::size_t i = 0; is_same && i < layers.size(); ++i)
      is_same = manifest_->layers[i].digest == layers[i].digest;
    if (is_same) {
      type = manifest_->media_type;
      return manifest_text_;
    }
    ImageManifest manifest;
    manifest.media_type = type = media::kOciManifest;
    manifest.config.media_type = media::kOciConfig;
    manifest.config.digest = image_.config;
    manifest.config.size = config.size();
    for (auto& layer : layers) {
      layer.media_type = to_oci_type(layer.media_type);
      manifest.layers.push_back(std::move(layer));
    }
    return format_manifest_like(manifest, manifest_text_);
  }

  store::Store& store_;
  const store::ImageRecord& image_;
  const Reference& to_;
  const ExportOptions& options_;
  const MountSources& mounts_;
  Repository& repository_;
  std::string manifest_text_;
  std::optional<ImageManifest> manifest_;  ///< nullopt: it says nothing of the layers
  std::vector<Job> jobs_;
  ExportProgress progress_;  // the calling thread's
  std::atomic<std::uint64_t> bytes_done_{0};
  LayerWorkers workers_;

  std::mutex mutex_;
  std::map<LayerKey, Descriptor> layers_;  ///< guarded by mutex_
  PushedImage pushed_;                     ///< guarded by mutex_
};

}  // namespace

Result<PushedImage> push_image(store::Store& store, const store::ImageRecord& image,
                               const Reference& reference, const ExportOptions& options) {
  LAYERFS_ASSIGN(auto registries, registry::Registries::make(options.access));
  LAYERFS_ASSIGN(const auto endpoint, registry::find_write_endpoint(registries->conf(), reference));
  LAYERFS_ASSIGN(MountSources mounts, MountSources::find(store, image, endpoint.reference));
  LAYERFS_ASSIGN(auto repository,
                 registries->open(endpoint, {.pushes = true, .mounts_from = mounts.repositories()}));
  LAYERFS_ASSIGN(PushedImage pushed,
                 ImagePush(store, image, endpoint.reference, options, mounts, *repository).run());
  if (pushed.layers_changed > 0 && !options.compression)
    log_warning("{} of {} layers cannot be compressed as they came: the image has the manifest {} at {}",
                pushed.layers_changed, pushed.layers_sent + pushed.layers_present, pushed.manifest.str(),
                reference.name());
  return pushed;
}

}  // namespace layerfs::image
