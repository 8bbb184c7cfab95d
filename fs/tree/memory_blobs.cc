// SPDX-License-Identifier: Apache-2.0
#include "fs/tree/memory_blobs.h"

#include <sys/mman.h>

#include "fs/base/bytes.h"
#include "fs/base/sha256.h"
#include "fs/base/sys_file.h"

namespace layerfs::tree {

Result<Digest> MemoryBlobs::put(std::string_view content) {
  std::lock_guard hold(mutex_);
  if (!file_) {
    Fd file(::memfd_create("layerfs-blobs", MFD_CLOEXEC));
    int code = errno;
    if (!file) return system_error(code, "create memory file");
    file_ = std::make_shared<const Fd>(std::move(file));
  }
  Digest digest = sha256(content);
  if (blobs_.contains(digest)) return digest;
  LAYERFS_TRY(pwrite_full(file_->get(), as_bytes(content), end_));
  blobs_.emplace(digest, Blob{file_, end_, content.size()});
  end_ += content.size();
  return digest;
}

Result<Blob> MemoryBlobs::open(const Digest& digest) const {
  std::lock_guard hold(mutex_);
  ++opens_;
  auto found = blobs_.find(digest);
  if (found == blobs_.end()) return errno_error(ENOENT);
  return found->second;
}

std::uint64_t MemoryBlobs::opens() const {
  std::lock_guard hold(mutex_);
  return opens_;
}

}  // namespace layerfs::tree
