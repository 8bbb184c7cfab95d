// SPDX-License-Identifier: Apache-2.0
#include "fs/image/layer_import.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <thread>

#include "fs/base/sha256.h"
#include "fs/image/decompress.h"
#include "fs/image/layer_recorder.h"

namespace layerfs::image {

namespace {

constexpr std::size_t kTarConsumers = 2;
constexpr std::size_t kRecorder = 0;
constexpr std::size_t kHasher = 1;
constexpr std::size_t kBlobSlots = 8;
constexpr std::size_t kBlobChunk = 256 * 1024;

bool is_cancelled(const Error& error) { return error.kind == ErrorKind::kSystem && error.code == ECANCELED; }

Result<Digest> hash_ring(ChunkRing& ring) {
  Sha256 hash;
  for (;;) {
    LAYERFS_ASSIGN(auto chunk, ring.next(kHasher));
    if (chunk.empty()) return hash.finish();
    hash.update(chunk);
  }
}

/// A thread whose result is asked for once; a failure aborts the ring so that nobody waits for it.
class RingThread {
 public:
  RingThread(ChunkRing& ring, std::function<Result<void>()> work)
      : ring_(ring), thread_([this, run = std::move(work)] {
          result_ = run_guarded(run);
          if (!result_) ring_.abort();
        }) {}
  ~RingThread() {
    if (!thread_.joinable()) return;
    ring_.abort();  // an exception is on its way up: the other end of the ring is gone
    thread_.join();
  }
  RingThread(const RingThread&) = delete;
  RingThread& operator=(const RingThread&) = delete;
  const Result<void>& join() {
    if (thread_.joinable()) thread_.join();
    return result_;
  }

 private:
  ChunkRing& ring_;
  Result<void> result_;  // written by the thread, read after join()
  std::thread thread_;
};

/// The end of a ring of compressed bytes as a ByteSource.
class RingBytes final : public ByteSource {
 public:
  explicit RingBytes(ChunkRing& ring) : ring_(ring) {}
  Result<std::size_t> read(std::span<std::byte> buffer) override {
    if (rest_.empty()) {
      LAYERFS_ASSIGN(rest_, ring_.next(0));
      if (rest_.empty()) return 0;  // the end; memcpy(3) takes no null pointer, not even for no bytes
    }
    std::size_t size = std::min(buffer.size(), rest_.size());
    std::memcpy(buffer.data(), rest_.data(), size);
    rest_ = rest_.subspan(size);
    return size;
  }

 private:
  ChunkRing& ring_;
  std::span<const std::byte> rest_;
};

/// Counts, hashes and stops: what every byte of a blob goes through.
class BlobMeter {
 public:
  explicit BlobMeter(const BlobWatch& watch) : watch_(watch) {}
  Result<void> add(std::span<const std::byte> bytes) {
    if (watch_.stop != nullptr && watch_.stop->load(std::memory_order_relaxed)) return errno_error(ECANCELED);
    if (watch_.digest) hash_.update(bytes);
    total_.fetch_add(bytes.size(), std::memory_order_relaxed);
    if (watch_.bytes_done != nullptr) watch_.bytes_done->fetch_add(bytes.size(), std::memory_order_relaxed);
    return {};
  }
  std::uint64_t total() const { return total_.load(std::memory_order_relaxed); }
  /// Called by the thread that runs the producer.
  Result<void> report() const {
    if (!watch_.report) return {};
    return watch_.report(total());
  }
  Result<void> verify() {
    if (!watch_.digest) return {};
    Digest digest = hash_.finish();
    if (digest == *watch_.digest) return {};
    return corrupt_error("verify blob", watch_.digest->str(), "its digest is " + digest.str());
  }

 private:
  const BlobWatch& watch_;
  Sha256 hash_;
  std::atomic<std::uint64_t> total_{0};
};

/// Reads, decompresses and hands out; `codec` kPlain fills the ring's buffers directly.
Result<void> pump(ByteSource& plain, const BlobMeter& meter, Codec codec, const ImportLimits& limits,
                  ChunkRing& ring) {
  std::uint64_t total = 0;
  for (;;) {
    LAYERFS_ASSIGN(auto buffer, ring.acquire());
    LAYERFS_ASSIGN(std::size_t got, plain.read(buffer));
    if (got == 0) return {};
    total += got;
    LAYERFS_TRY(check_expansion("layer size", total, codec == Codec::kPlain ? total : meter.total(), limits));
    ring.commit(got);
    LAYERFS_TRY(meter.report());
  }
}

/// A source whose bytes go through the meter.
class MeteredSource final : public ByteSource {
 public:
  MeteredSource(ByteSource& source, BlobMeter& meter) : source_(source), meter_(meter) {}
  Result<std::size_t> read(std::span<std::byte> buffer) override {
    LAYERFS_ASSIGN(std::size_t got, source_.read(buffer));
    LAYERFS_TRY(meter_.add(buffer.first(got)));
    return got;
  }

 private:
  ByteSource& source_;
  BlobMeter& meter_;
};

Result<void> decompress_blob(ByteSource& source, BlobMeter& meter, Codec codec, const ImportLimits& limits,
                             ChunkRing& ring) {
  ChunkRing compressed(1, kBlobSlots, kBlobChunk);
  RingThread reader(compressed, [&]() -> Result<void> {
    for (;;) {
      LAYERFS_ASSIGN(auto buffer, compressed.acquire());
      LAYERFS_ASSIGN(std::size_t got, source.read(buffer));
      if (got == 0) break;
      LAYERFS_TRY(meter.add(buffer.first(got)));
      compressed.commit(got);
    }
    compressed.close();
    return {};
  });
  RingBytes bytes(compressed);
  auto pumped = [&]() -> Result<void> {
    LAYERFS_ASSIGN(auto plain, make_decompressor(bytes, codec, {.window = limits.zstd_window}));
    return pump(*plain, meter, codec, limits, ring);
  }();
  if (!pumped) compressed.abort();
  const Result<void>& read = reader.join();
  if (!read && !is_cancelled(read.error())) return read;
  if (!pumped && is_cancelled(pumped.error()) && !read) return read;
  return pumped;
}

}  // namespace

Result<void> run_guarded(const std::function<Result<void>()>& function) {
  try {
    return function();
  } catch (const std::bad_alloc&) {
    return errno_error(ENOMEM);
  } catch (const std::exception& error) {
    return std::unexpected(Error{ErrorKind::kSystem, EIO, {}, error.what()});
  }
}

Result<void> check_expansion(std::string_view what, std::uint64_t plain, std::uint64_t compressed,
                             const ImportLimits& limits) {
  // A small layer of zeros may expand a thousandfold: only what is also large is refused.
  constexpr std::uint64_t kFloor = std::uint64_t{100} << 20;
  if (plain > limits.layer_bytes)
    return invalid_error(what, fmt::format("{}", plain),
                         fmt::format("more than {} bytes (the limit can be raised)", limits.layer_bytes));
  if (plain > kFloor && plain / std::max<std::uint64_t>(limits.expansion, 1) > compressed)
    return invalid_error(
        what, fmt::format("{}", plain),
        fmt::format("more than {} times its compressed size (the limit can be raised)", limits.expansion));
  return {};
}

Result<void> produce_blob(ByteSource& source, const BlobWatch& watch, const ImportLimits& limits,
                          ChunkRing& ring) {
  BlobMeter meter(watch);
  PeekSource peeked(source);
  LAYERFS_ASSIGN(std::string_view head, peeked.peek());
  LAYERFS_ASSIGN(Codec codec, detect_codec(head));
  if (codec == Codec::kPlain) {
    MeteredSource metered(peeked, meter);
    LAYERFS_TRY(pump(metered, meter, codec, limits, ring));
  } else {
    LAYERFS_TRY(decompress_blob(peeked, meter, codec, limits, ring));
  }
  return meter.verify();
}

Result<ImportedLayer> import_layer(store::Store& store, const ImportLimits& limits, TarEnd end,
                                   const std::optional<Digest>& diff_id, const LayerProducer& produce) {
  ChunkRing ring(kTarConsumers);
  ImportedLayer imported;
  Result<Digest> hashed;
  RingThread hasher(ring, [&]() -> Result<void> {
    LAYERFS_ASSIGN(hashed, hash_ring(ring));
    return {};
  });
  // One thread uses the store's writers from beginning to end, because an LMDB transaction belongs to a thread.
  RingThread recorder(ring, [&]() -> Result<void> {
    RingSource source(ring, kRecorder);
    LAYERFS_ASSIGN(auto objects, store.objects().make_writer());
    LAYERFS_ASSIGN(auto layer, store.make_layer_writer());
    LayerRecorder recording(source, *objects, *layer, limits, end);
    LAYERFS_TRY(recording.run());
    LAYERFS_TRY(hasher.join());
    imported.info = recording.info();
    imported.info.diff_id = *hashed;
    imported.newest = recording.newest();
    if (diff_id && *hashed != *diff_id)
      return corrupt_error("verify diffID", diff_id->str(), "the uncompressed layer has " + hashed->str());
    LAYERFS_TRY(objects->finish());
    return layer->publish(imported.info);
  });
  auto produced = run_guarded([&] { return produce(ring); });
  if (produced) {
    ring.close();
  } else {
    ring.abort();
  }
  const Result<void>& recorded = recorder.join();
  // Whoever failed first stopped the others, which then only say that they were cancelled.
  if (!produced && !is_cancelled(produced.error())) return std::unexpected(produced.error());
  if (!recorded && !is_cancelled(recorded.error())) return std::unexpected(recorded.error());
  if (const auto& hash = hasher.join(); !hash && !is_cancelled(hash.error()))
    return std::unexpected(hash.error());
  if (!produced) return std::unexpected(produced.error());
  if (!recorded) return std::unexpected(recorded.error());
  return imported;
}

}  // namespace layerfs::image
