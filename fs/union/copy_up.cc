// SPDX-License-Identifier: Apache-2.0
// Copy-up: a file whose bytes are the tree's gets a data file, or a place in one, at its first write; and one
// that outgrows its place a file.
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "fs/base/sys_file.h"
#include "fs/union/content.h"

namespace layerfs::unionfs {

using tree::ContentKind;

namespace {

constexpr std::size_t kBlock = 4096;

bool is_zero(std::span<const std::byte> bytes) {
  return bytes.empty() ||
         (bytes[0] == std::byte{0} && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

// Writes the runs of blocks that are not zeros, so that a sparse file stays sparse. True where it left some
// out.
Result<bool> write_sparse(int fd, std::span<const std::byte> bytes, std::uint64_t offset) {
  std::size_t begin = 0;
  std::size_t written = 0;
  while (begin < bytes.size()) {
    auto block_at = [&](std::size_t at) { return bytes.subspan(at, std::min(kBlock, bytes.size() - at)); };
    while (begin < bytes.size() && is_zero(block_at(begin))) begin += block_at(begin).size();
    std::size_t end = begin;
    while (end < bytes.size() && !is_zero(block_at(end))) end += block_at(end).size();
    if (begin < end) LAYERFS_TRY(pwrite_full(fd, bytes.subspan(begin, end - begin), offset + begin));
    written += end - begin;
    begin = end;
  }
  return written < bytes.size();
}

}  // namespace

Result<bool> Content::copy_whole(Ino ino, const Node& node, std::uint64_t size, const DataPlace& data) const {
  std::vector<std::byte> buffer(std::min<std::uint64_t>(size, std::uint64_t{256} << 10));
  bool sparse = false;
  for (std::uint64_t done = 0; done < size;) {
    auto part = std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), size - done));
    LAYERFS_ASSIGN(std::size_t count, read(ino, node, done, part));
    if (count == 0) break;
    LAYERFS_ASSIGN(bool left_out, write_sparse(data.fd(), part.first(count), data.offset + done));
    sparse = sparse || left_out;
    done += count;
  }
  return sparse;
}

bool Content::would_copy(const Node& node, std::uint64_t reach) {
  return !has_data_file(node.content) || (node.content == ContentKind::kShared && reach > tree::kSharedLimit);
}

Result<DataPlace> Content::make_data(Ino ino, Node& node, std::uint64_t keep, std::uint64_t reach) const {
  if (!would_copy(node, reach)) return open(ino, node);
  keep = std::min(keep, node.size);
  Node copied = node;
  copied.base_size = 0;
  copied.data_reaches = true;
  bool by_range = node.content == ContentKind::kObject && keep > whole_copy_limit_;
  DataPlace data;
  if (!by_range && reach <= tree::kSharedLimit) {
    copied.content = ContentKind::kShared;
    LAYERFS_ASSIGN(data, descriptors_.create_shared(ino));
  } else {
    copied.content = ContentKind::kData;
    LAYERFS_ASSIGN(data.file, descriptors_.create_data(ino));
    // An earlier attempt that failed, or died before its node was put, may have left bytes there.
    if (::ftruncate(data.fd(), 0) != 0) {
      int code = errno;
      return system_error(code, "truncate data file");
    }
  }
  if (by_range) {
    copied.base_size = keep;
  } else {
    copied.object = Digest{};
    bool sparse = keep > 0;  // of what has no bytes: a hole
    if (node.content != ContentKind::kNone) {
      LAYERFS_ASSIGN(sparse, copy_whole(ino, node, keep, data));
    }
    if (sparse) {
      LAYERFS_TRY(extend(data, keep));
      note_holes(copied, keep);
    }
  }
  node = copied;
  return data;
}

}  // namespace layerfs::unionfs
