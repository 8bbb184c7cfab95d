// SPDX-License-Identifier: Apache-2.0
#include "fs/tree/blob_source.h"

#include <algorithm>
#include <span>
#include <vector>

#include "fs/base/sha256.h"
#include "fs/base/sys_file.h"

namespace layerfs::tree {

Result<Digest> digest_of(const Blob& blob) {
  Sha256 hash;
  std::vector<std::byte> buffer(static_cast<std::size_t>(std::min<std::uint64_t>(blob.size, 1U << 20)));
  for (std::uint64_t done = 0; done < blob.size;) {
    auto piece = std::span(buffer).first(
        static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), blob.size - done)));
    LAYERFS_ASSIGN(std::size_t got, pread_full(blob.file->get(), piece, blob.offset + done));
    if (got != piece.size()) return corrupt_error("read object", {}, "it is cut short");
    hash.update(piece);
    done += got;
  }
  return hash.finish();
}

Result<void> BlobSource::verify(const Digest& digest) const {
  LAYERFS_ASSIGN(Blob blob, open(digest));
  LAYERFS_ASSIGN(Digest has, digest_of(blob));
  if (has != digest) return corrupt_error("object", digest.str(), "its bytes have another digest");
  return {};
}

}  // namespace layerfs::tree
