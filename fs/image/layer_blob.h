// SPDX-License-Identifier: Apache-2.0
// LayerBlob: a stored layer as the bytes of a compressed blob, made while they are read: a thread of its own puts the
// tar together and compresses it, a few buffers ahead of the reader.
//
// (1) The end is reached only by a tar that has the diffID (layer_stream.h): what a damaged store gives is an error
//     before it.
// (2) Memory: kSlots buffers of a ring, and the encoder's.
// (3) The thread is gone when the object is.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <thread>

#include "fs/base/result.h"
#include "fs/image/chunk_ring.h"
#include "fs/image/compress.h"
#include "fs/registry/blob_upload.h"
#include "fs/store/store.h"

namespace layerfs::image {

class LayerBlob final : public registry::BlobBytes {
 public:
  static constexpr std::size_t kSlots = 4;

  /// `report`: called with the length of each piece of the tar, from the thread; an error ends it. `store` must outlive
  /// the blob.
  LayerBlob(store::Store& store, const Digest& diff_id, EncoderOptions options,
            std::function<Result<void>(std::uint64_t)> report);
  ~LayerBlob() override;
  LayerBlob(const LayerBlob&) = delete;
  LayerBlob& operator=(const LayerBlob&) = delete;

  /// Errors: those of stream_layer() and of `report`.
  Result<std::size_t> read(std::span<std::byte> buffer) override;

 private:
  Result<void> produce();

  store::Store& store_;
  const Digest diff_id_;
  EncoderOptions options_;
  const std::function<Result<void>(std::uint64_t)> report_;
  ChunkRing ring_{1, kSlots};
  Result<void> produced_;  ///< the thread's until it is joined
  std::span<const std::byte> chunk_;
  std::thread thread_;
};

}  // namespace layerfs::image
