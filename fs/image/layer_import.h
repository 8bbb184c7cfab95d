// SPDX-License-Identifier: Apache-2.0
// The pipeline of one layer (IMAGE.md, "Pipeline"): threads that read and verify the blob, decompress, take
// the diffID and write the store, joined by rings of reused buffers.
//
// (1) The layer is published after the blob's digest, the diffID and every content were verified and are
//     durable.
// (2) Memory: two rings (8 MiB), the decompressor's window, and what the store's writers buffer.
// (3) However import_layer() ends, none of its threads is left, and nothing of a layer that failed is visible.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "fs/base/digest.h"
#include "fs/base/result.h"
#include "fs/image/byte_source.h"
#include "fs/image/chunk_ring.h"
#include "fs/image/importer.h"
#include "fs/image/tar_reader.h"
#include "fs/store/store.h"

namespace layerfs::image {

struct ImportedLayer {
  store::LayerInfo info;
  tree::Time newest;  ///< latest mtime of its entries
};

/// Fills a ring with a tar, piece by piece, in the thread that called; the ring is closed or aborted for it.
using LayerProducer = std::function<Result<void>(ChunkRing&)>;

/// Stores the tar that `produce` gives. `diff_id`: the diffID that the tar must have; nullopt: any. Errors: those of
/// `produce`, of the tar and of the store; kCorrupt where the diffID differs.
Result<ImportedLayer> import_layer(store::Store& store, const ImportLimits& limits, TarEnd end,
                                   const std::optional<Digest>& diff_id, const LayerProducer& produce);

/// What is known about a blob before it is read, and how its reading is watched and stopped. The pointers and
/// the function may be null.
struct BlobWatch {
  std::optional<Digest> digest;                      ///< verified where set
  std::atomic<std::uint64_t>* bytes_done = nullptr;  ///< counts compressed bytes
  const std::atomic<bool>* stop = nullptr;           ///< ECANCELED once it is true
  /// Compressed bytes so far, from the calling thread; an error ends the reading.
  std::function<Result<void>(std::uint64_t)> report;
};

/// Reads `source` to its end, decompresses it into `ring`. Errors: kCorrupt (digest, compression), kInvalid
/// where a limit is passed.
Result<void> produce_blob(ByteSource& source, const BlobWatch& watch, const ImportLimits& limits,
                          ChunkRing& ring);

/// Compares the lengths of some bytes, plain and compressed (both the same where nothing is compressed), with the
/// limits. `what` names the bytes. Errors: kInvalid where a limit is passed. Whatever decompresses calls this.
Result<void> check_expansion(std::string_view what, std::uint64_t plain, std::uint64_t compressed,
                             const ImportLimits& limits);

/// Runs `function` at a thread's entry: an exception becomes an error.
Result<void> run_guarded(const std::function<Result<void>()>& function);

}  // namespace layerfs::image
