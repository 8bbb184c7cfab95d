// SPDX-License-Identifier: Apache-2.0
// ChunkRing: a bounded queue of reused buffers from one producer thread to a fixed number of consumer
// threads, each of which sees every chunk: the tar parser and the diffID hasher read the same bytes without a
// copy.
//
//        acquire()/commit()                    next()
//   producer -----------> [slot][slot]...[slot] -----------> consumer 0, 1...
//   head_: chunks made    tails_[c]: chunks given back by consumer c
//
// (1) A slot is reused once every consumer has given its chunk back, so memory is slots * chunk size.
// (2) The stream ends by close() (all bytes were there and are right) or by abort(): after an abort every
//     acquire() and next() fails at once, so no thread waits for one that has stopped.
// (3) A consumer's chunk stays valid until its next call of next().
// (4) One mutex, mutex_, held for a few instructions only; never while bytes are touched.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "fs/base/result.h"

namespace layerfs::image {

/// Gives a stream chunk by chunk. One thread.
class ChunkSource {
 public:
  virtual ~ChunkSource() = default;
  /// The next bytes, never none before the end; empty at the end. Valid until the next call.
  virtual Result<std::span<const std::byte>> next() = 0;
  /// Passes over up to `size` bytes without reading them where the source can; returns how many it passed.
  virtual Result<std::uint64_t> skip(std::uint64_t size) {
    static_cast<void>(size);
    return std::uint64_t{0};
  }
};

class ChunkRing {
 public:
  static constexpr std::size_t kChunkSize = std::size_t{1} << 20;
  static constexpr std::size_t kSlots = 6;

  explicit ChunkRing(std::size_t consumers, std::size_t slots = kSlots, std::size_t chunk_size = kChunkSize);

  /// Producer: a free buffer to fill; waits for one. Errors: ECANCELED after abort().
  Result<std::span<std::byte>> acquire();
  /// Producer: hands the first `size` bytes of the acquired buffer out. Zero: nothing happens.
  void commit(std::size_t size);
  /// Producer: copies `bytes` in, chunk by chunk.
  Result<void> write(std::span<const std::byte> bytes);
  /// Producer: hands out what write() has gathered, then ends the stream.
  void close();
  /// Anybody: the stream is off.
  void abort();
  bool aborted() const;

  /// Consumer `consumer`: the next chunk, empty after close(). Errors: ECANCELED after abort().
  Result<std::span<const std::byte>> next(std::size_t consumer);

 private:
  struct Slot {
    std::unique_ptr<std::byte[]> bytes;
    std::size_t size = 0;
  };
  struct Tail {
    std::uint64_t done = 0;  ///< chunks given back
    bool holds = false;      ///< the chunk `done` is in the consumer's hands
  };
  std::uint64_t slowest_locked() const;

  const std::size_t chunk_size_;
  std::size_t filled_ = 0;  ///< producer only: bytes of write() in the acquired buffer

  mutable std::mutex mutex_;
  std::condition_variable room_;
  std::condition_variable data_;
  std::vector<Slot> slots_;  ///< the vector is fixed; a slot's bytes belong to who holds its chunk
  std::vector<Tail> tails_;
  std::uint64_t head_ = 0;
  bool closed_ = false;
  bool aborted_ = false;
};

/// One consumer's end of a ring.
class RingSource final : public ChunkSource {
 public:
  RingSource(ChunkRing& ring, std::size_t consumer) : ring_(ring), consumer_(consumer) {}
  Result<std::span<const std::byte>> next() override { return ring_.next(consumer_); }

 private:
  ChunkRing& ring_;
  std::size_t consumer_;
};

}  // namespace layerfs::image
