// SPDX-License-Identifier: Apache-2.0
// ObjectStore: every distinct file content once, by SHA-256. Small contents lie one after another in pack
// files (one a writer, in the order they came: tree order), large ones are files of their own.
//
// (1) Bytes are on disk before the catalog names them: finish() syncs, then one catalog transaction.
// (2) What an ObjectWriter wrote is invisible to everybody else until finish() returns; one that is
//     destroyed without it leaves only unnamed bytes, which gc removes.
// (3) A Blob stays readable while it is held, whatever gc does.
// (4) A file of its own that was changed since it was written is not handed out: its time of change says so
//     (FORMAT.md, "Objects"), and then its bytes are looked at before the first of them is served.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "fs/base/digest.h"
#include "fs/base/result.h"
#include "fs/tree/blob_source.h"

namespace layerfs::store {

class Store;

/// Contents below this many bytes go into packs, the rest are files of their own.
inline constexpr std::uint64_t kPackLimit = 64 * 1024;

/// Adds contents for one import or commit. One thread at a time; many writers may be at work at once, in
/// this and in other processes: the same content written by two of them is kept once.
class ObjectWriter {
 public:
  virtual ~ObjectWriter() = default;

  /// Stores `data` whole and returns its digest. Nothing is written where the store has it already.
  virtual Result<Digest> put(std::span<const std::byte> data) = 0;

  /// A content of any size in pieces: begin(), append()..., end(). One at a time. `size_hint`: the size that
  /// the tar promises (0: unknown), only used to choose where it goes.
  virtual Result<void> begin(std::uint64_t size_hint) = 0;
  virtual Result<void> append(std::span<const std::byte> data) = 0;
  /// Instead of begin(): a content with long holes. Its digest is that of its sparse form (sparse_name.h),
  /// not its SHA-256, so that holes cost nothing however long they are; it is a file of its own.
  virtual Result<void> begin_sparse() = 0;
  /// `length` zeros: a hole where the content is a file of its own.
  virtual Result<void> append_hole(std::uint64_t length) = 0;
  virtual Result<Digest> end() = 0;

  /// Makes everything durable and named (invariant 1). Errors: ENOSPC, EIO...: then nothing is named.
  virtual Result<void> finish() = 0;
};

class ObjectStore : public tree::BlobSource {
 public:
  /// True where the store has the content.
  virtual Result<bool> contains(const Digest& digest) const = 0;
  virtual Result<std::unique_ptr<ObjectWriter>> make_writer() = 0;
};

}  // namespace layerfs::store
