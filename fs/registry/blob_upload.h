// SPDX-License-Identifier: Apache-2.0
// upload_blob(): a blob goes into a repository while it is made (distribution-spec, "Pushing blobs"). REGISTRY.md has
// the invariants, cited as [n]. One thread for each call; the repository may have many.
//
//   bytes ── gather a chunk ──> all of it is there: HEAD ──> POST ──> PUT with the bytes and the digest
//                         └──> more follows:        POST ──> PATCH ... PATCH ──> PUT with the digest
//
// (1) Memory: one chunk, kChunkSize or what the registry wants at least, kMaxChunkSize at most.
// (2) A chunk is not sent twice before the registry was asked how much of it came [6]: GET of the upload's Location. It
//     goes on from there; where nobody knows the upload any more, a new one begins, with the bytes made anew.
// (3) A blob is there when the registry has taken its digest, or says by HEAD that it has it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "fs/base/digest.h"
#include "fs/base/result.h"
#include "fs/registry/registry_client.h"

namespace layerfs::registry {

inline constexpr std::size_t kChunkSize = std::size_t{8} << 20;
inline constexpr std::size_t kMaxChunkSize = std::size_t{64} << 20;

/// The bytes of a blob from front to back, where they are made. One thread.
class BlobBytes {
 public:
  virtual ~BlobBytes() = default;
  /// Some bytes; 0 at the end.
  virtual Result<std::size_t> read(std::span<std::byte> buffer) = 0;
};

struct UploadOptions {
  /// Begins anew; the same bytes each time.
  std::function<Result<std::unique_ptr<BlobBytes>>()> open;
  const std::atomic<bool>* stop = nullptr;  ///< ends it with ECANCELED once it is true; may be null
  std::size_t chunk_size = kChunkSize;
  std::optional<Digest> expected;  ///< bytes with another digest are an error, and no blob there
};

struct UploadedBlob {
  Digest digest;
  std::uint64_t size = 0;
  bool was_there = false;  ///< nothing was sent
};

/// Errors: those of `open` and of the bytes; kInvalid where the digest is not the expected one; what the registry says
/// against it, naming the repository; kUnsupported where it wants chunks of more than kMaxChunkSize.
Result<UploadedBlob> upload_blob(Repository& repository, const UploadOptions& options);

/// The number of bytes that "0-N", or "bytes=0-N", says are there; nullopt: it is no such range. "0-0" is what
/// registries say of none.
std::optional<std::uint64_t> parse_upload_range(std::string_view text);

}  // namespace layerfs::registry
