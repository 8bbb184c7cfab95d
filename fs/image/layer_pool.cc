// SPDX-License-Identifier: Apache-2.0
#include "fs/image/layer_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <unordered_set>

#include "fs/base/sha256.h"
#include "fs/image/layer_import.h"
#include "fs/image/layer_workers.h"

namespace layerfs::image {

namespace {

std::string shown(const SourceLayer& layer) {
  return layer.descriptor ? layer.descriptor->digest.str() : layer.diff_id.str();
}

/// Of a blob whose digest differs that is said, whatever the decompressor or the tar reader made of the damage.
Error explain(const SourceLayer& layer, Error error) {
  if (!layer.is_near || !layer.descriptor) return error;
  if (error.kind != ErrorKind::kCorrupt && error.kind != ErrorKind::kInvalid) return error;
  const std::atomic<bool> go_on{false};
  auto source = layer.open(go_on);
  if (!source) return source.error();
  Sha256 hash;
  std::vector<std::byte> buffer(std::size_t{1} << 20);
  for (;;) {
    auto got = (*source)->read(buffer);
    if (!got) return got.error();
    if (*got == 0) break;
    hash.update(std::span(buffer).first(*got));
  }
  Digest digest = hash.finish();
  if (digest == layer.descriptor->digest) return error;
  return corrupt_error("verify blob", layer.descriptor->digest.str(), "its digest is " + digest.str())
      .error();
}

class LayerPool {
 public:
  LayerPool(store::Store& store, const ImportOptions& options) : store_(store), options_(options) {}

  Result<void> run(const std::vector<SourceLayer>& layers) {
    LAYERFS_TRY(choose(layers));
    const auto threads = std::clamp(std::thread::hardware_concurrency(), 1U, kMaxParallel);
    return workers_.run(
        jobs_.size(), threads,
        {.work = [this](std::size_t index) { return import_one(*jobs_[index]); },
         .explain =
             [this](std::size_t index, Error error) {
               const SourceLayer& layer = *jobs_[index];
               return with_context(explain(layer, std::move(error)), "import layer", shown(layer)).error();
             },
         .report = [this] { return report(); }});
  }

 private:
  Result<void> choose(const std::vector<SourceLayer>& layers) {
    std::unordered_set<Digest> seen;
    progress_.layers_total = layers.size();
    for (const auto& layer : layers) {
      progress_.bytes_total += layer.size;
      bool repeated = !seen.insert(layer.diff_id).second;
      bool stored = false;
      if (!repeated) {
        LAYERFS_ASSIGN(stored, store_.has_layer(layer.diff_id));
      }
      if (repeated || stored) {
        ++layers_done_;
        bytes_done_ += layer.size;
      } else {
        jobs_.push_back(&layer);
      }
    }
    // The largest layer first, or the others would wait for it in the end.
    std::ranges::stable_sort(jobs_, std::greater<>(), [](const SourceLayer* layer) { return layer->size; });
    return {};
  }

  Result<void> import_one(const SourceLayer& layer) {
    LAYERFS_ASSIGN(auto source, layer.open(workers_.stop()));
    BlobWatch watch;
    watch.bytes_done = &bytes_done_;
    watch.stop = &workers_.stop();
    // A plain layer whose blob is its tar has one digest for both: the diffID is verified anyway.
    if (layer.descriptor && layer.descriptor->digest != layer.diff_id)
      watch.digest = layer.descriptor->digest;
    LAYERFS_TRY(import_layer(store_, options_.limits, TarEnd::kAnywhere, layer.diff_id, [&](ChunkRing& ring) {
      return produce_blob(*source, watch, options_.limits, ring);
    }));
    ++layers_done_;
    return {};
  }

  Result<void> report() {
    if (!options_.progress) return {};
    progress_.bytes_done = bytes_done_;
    progress_.layers_done = layers_done_;
    return options_.progress(progress_);
  }

  store::Store& store_;
  const ImportOptions& options_;
  std::vector<const SourceLayer*> jobs_;
  ImportProgress progress_;  // the calling thread's
  std::atomic<std::uint64_t> bytes_done_{0};
  std::atomic<std::size_t> layers_done_{0};
  LayerWorkers workers_;
};

}  // namespace

Result<void> import_missing_layers(store::Store& store, const std::vector<SourceLayer>& layers,
                                   const ImportOptions& options) {
  return LayerPool(store, options).run(layers);
}

}  // namespace layerfs::image
