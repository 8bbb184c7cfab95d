// SPDX-License-Identifier: Apache-2.0
// MemoryBlobs: a BlobSource in memory, all contents one after another in a memfd, so that offsets matter as
// they do in a pack. For tests. Any thread.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string_view>

#include "fs/tree/blob_source.h"

namespace layerfs::tree {

class MemoryBlobs final : public BlobSource {
 public:
  /// Stores the content, once. Errors: EMFILE, ENOMEM.
  Result<Digest> put(std::string_view content);
  Result<Blob> open(const Digest& digest) const override;
  /// How often open() was called.
  std::uint64_t opens() const;

 private:
  mutable std::mutex mutex_;  // guards all below
  std::shared_ptr<const Fd> file_;
  std::uint64_t end_ = 0;
  std::map<Digest, Blob> blobs_;
  mutable std::uint64_t opens_ = 0;
};

}  // namespace layerfs::tree
