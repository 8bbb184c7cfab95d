// SPDX-License-Identifier: Apache-2.0
#include "fs/image/layer_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <unordered_set>

#include "fs/base/sha256.h"
#include "fs/image/layer_import.h"

namespace layerfs::image {

namespace {

constexpr auto kProgressPeriod = std::chrono::milliseconds(100);

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
    auto count = std::min<std::size_t>(jobs_.size(),
                                       std::clamp(std::thread::hardware_concurrency(), 1U, kMaxParallel));
    running_ = count;
    std::vector<std::jthread> workers;
    workers.reserve(count);
    for (std::size_t i = 0; i < count; ++i) workers.emplace_back([this] { work(); });
    report_until_done();
    workers.clear();
    if (error_) return std::unexpected(*error_);
    return {};
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

  void work() {
    for (;;) {
      std::size_t index = next_.fetch_add(1);
      if (index >= jobs_.size() || stop_) break;
      const SourceLayer& layer = *jobs_[index];
      auto imported = run_guarded([&] { return import_one(layer); });
      if (!imported) {
        fail(layer, imported.error());
        break;
      }
      ++layers_done_;
    }
    std::lock_guard lock(mutex_);
    --running_;
    done_.notify_all();
  }

  Result<void> import_one(const SourceLayer& layer) {
    LAYERFS_ASSIGN(auto source, layer.open(stop_));
    BlobWatch watch;
    watch.bytes_done = &bytes_done_;
    watch.stop = &stop_;
    // A plain layer whose blob is its tar has one digest for both: the diffID is verified anyway.
    if (layer.descriptor && layer.descriptor->digest != layer.diff_id)
      watch.digest = layer.descriptor->digest;
    LAYERFS_TRY(import_layer(store_, options_.limits, TarEnd::kAnywhere, layer.diff_id, [&](ChunkRing& ring) {
      return produce_blob(*source, watch, options_.limits, ring);
    }));
    return {};
  }

  void fail(const SourceLayer& layer, Error error) {
    {
      std::lock_guard lock(mutex_);
      if (stop_.exchange(true)) return;  // another layer failed first
    }
    Error explained = with_context(explain(layer, std::move(error)), "import layer", shown(layer)).error();
    std::lock_guard lock(mutex_);
    error_ = std::move(explained);
  }

  void report_until_done() {
    std::unique_lock lock(mutex_);
    for (bool finished = false; !finished;) {
      finished = done_.wait_for(lock, kProgressPeriod, [&] { return running_ == 0; });
      if (!options_.progress) continue;
      progress_.bytes_done = bytes_done_;
      progress_.layers_done = layers_done_;
      lock.unlock();
      auto go_on = options_.progress(progress_);
      lock.lock();
      // Where a layer has failed already, that is what is told.
      if (!go_on && !stop_.exchange(true)) error_ = go_on.error();
    }
  }

  store::Store& store_;
  const ImportOptions& options_;
  std::vector<const SourceLayer*> jobs_;
  ImportProgress progress_;  // the calling thread's
  std::atomic<std::uint64_t> bytes_done_{0};
  std::atomic<std::size_t> layers_done_{0};
  std::atomic<std::size_t> next_{0};
  std::atomic<bool> stop_{false};

  std::mutex mutex_;
  std::condition_variable done_;
  std::size_t running_ = 0;
  std::optional<Error> error_;
};

}  // namespace

Result<void> import_missing_layers(store::Store& store, const std::vector<SourceLayer>& layers,
                                   const ImportOptions& options) {
  return LayerPool(store, options).run(layers);
}

}  // namespace layerfs::image
