// SPDX-License-Identifier: Apache-2.0
// BlobSource: gives the immutable bytes of an object by digest. Implemented by store::ObjectStore and
// MemoryBlobs (tests). Any thread.
#pragma once

#include <cstdint>
#include <memory>

#include "fs/base/digest.h"
#include "fs/base/fd.h"
#include "fs/base/result.h"

namespace layerfs::tree {

/// `size` bytes at `offset` of a file that many objects may share. Copies share the descriptor.
struct Blob {
  std::shared_ptr<const Fd> file;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
};

class BlobSource {
 public:
  virtual ~BlobSource() = default;
  /// Errors: ENOENT (the store lacks it), EIO, EMFILE.
  virtual Result<Blob> open(const Digest& digest) const = 0;
  /// Reads the whole object and looks whether it has its digest: for who hands its bytes on as somebody
  /// else's. Errors: kCorrupt where it has not; those of open().
  virtual Result<void> verify(const Digest& digest) const;
};

/// SHA-256 of a blob's bytes. Errors: kCorrupt where the file ends early; EIO.
Result<Digest> digest_of(const Blob& blob);

}  // namespace layerfs::tree
