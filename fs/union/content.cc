// SPDX-License-Identifier: Apache-2.0
#include "fs/union/content.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "fs/base/sys_file.h"

namespace layerfs::unionfs {

namespace {

using tree::ContentKind;
using tree::ContentSource;

// As ext4 has them: a file's blocks, and how long a link's text is that needs none.
constexpr std::uint64_t kDiskBlock = 4096;
constexpr std::uint64_t kFastLink = 60;
constexpr std::uint64_t blocks_of(std::uint64_t bytes) {
  return (bytes + kDiskBlock - 1) / kDiskBlock * (kDiskBlock / 512);
}

/// Objects of this size are asked for their blocks: what has holes is large, and an image has few such files.
constexpr std::uint64_t kSeldomLarger = std::uint64_t{1} << 20;

// Where the first data or hole in [begin, end) of a file is; `end` where there is none.
Result<std::uint64_t> seek_in_file(int fd, std::uint64_t begin, std::uint64_t end, int whence) {
  // Nobody uses the position of these descriptors, so that another thread's lseek does no harm.
  off_t found = ::lseek(fd, static_cast<off_t>(begin), whence);
  int code = errno;
  if (found >= 0) return std::min(static_cast<std::uint64_t>(found), end);
  // At or beyond the end of the data file: all hole.
  if (code == ENXIO) return whence == SEEK_DATA ? end : begin;
  // A file system without holes: all data.
  if (code == EINVAL) return whence == SEEK_DATA ? begin : end;
  return system_error(code, "lseek");
}

// st_blocks of what is no hole in [begin, end) of a file.
std::uint64_t blocks_of_data(int fd, std::uint64_t begin, std::uint64_t end) {
  std::uint64_t count = 0;
  while (begin < end) {
    auto data = seek_in_file(fd, begin, end, SEEK_DATA);
    if (!data || *data >= end) break;
    auto hole = seek_in_file(fd, *data, end, SEEK_HOLE);
    if (!hole || *hole <= *data) break;
    count += blocks_of(*hole - *data);
    begin = *hole;
  }
  return count;
}

}  // namespace

Result<ReadPiece> Content::piece_of(Ino ino, const Node& node, const tree::ContentPart& part) const {
  switch (part.source) {
    case ContentSource::kHole: break;
    case ContentSource::kInline: {
      LAYERFS_ASSIGN(std::string bytes, view_.get_inline(ino));
      if (bytes.size() < part.offset + part.size)
        return corrupt_error("read", "inline content", "it is shorter than the file");
      return ReadPiece{nullptr, 0, part.size, bytes.substr(part.offset, part.size)};
    }
    case ContentSource::kObject: {
      LAYERFS_ASSIGN(tree::Blob blob, descriptors_.open_object(node.object));
      if (part.offset + part.size > blob.size)
        return corrupt_error("read object", node.object.str(), "it is shorter than the file");
      return ReadPiece{std::move(blob.file), blob.offset + part.offset, part.size, {}};
    }
    case ContentSource::kData: {
      LAYERFS_ASSIGN(DataPlace data, open(ino, node));
      return ReadPiece{std::move(data.file), data.offset + part.offset, part.size, {}, true};
    }
  }
  return ReadPiece{nullptr, 0, part.size, {}};
}

Result<std::vector<ReadPiece>> Content::pieces(Ino ino, const Node& node, std::uint64_t offset,
                                               std::uint64_t size) const {
  std::vector<ReadPiece> pieces;
  if (offset >= node.size) return pieces;
  const std::uint64_t end = offset + std::min(size, node.size - offset);
  LAYERFS_TRY(
      tree::visit_content(upper_, ino, node, offset, end, [&](const tree::ContentPart& part) -> Result<void> {
        LAYERFS_ASSIGN(ReadPiece piece, piece_of(ino, node, part));
        pieces.push_back(std::move(piece));
        return {};
      }));
  return pieces;
}

Result<std::size_t> Content::read(Ino ino, const Node& node, std::uint64_t offset,
                                  std::span<std::byte> buffer) const {
  LAYERFS_ASSIGN(auto all, pieces(ino, node, offset, buffer.size()));
  std::size_t filled = 0;
  for (const ReadPiece& piece : all) {
    auto part = buffer.subspan(filled, piece.size);
    std::size_t count = 0;
    if (piece.file) {
      LAYERFS_ASSIGN(count, pread_full(piece.file->get(), part, piece.offset));
      if (count < part.size() && !piece.may_end_early)
        return corrupt_error("read object", node.object.str(), "its file is too short");
    } else if (!piece.bytes.empty()) {
      std::memcpy(part.data(), piece.bytes.data(), part.size());
      count = part.size();
    }
    // A hole, or beyond the end of a data file (invariant 2).
    if (count < part.size()) std::memset(part.data() + count, 0, part.size() - count);
    filled += part.size();
  }
  return filled;
}

std::uint64_t Content::object_blocks(const Node& node, std::uint64_t size) const {
  std::uint64_t count = blocks_of(size);
  if (size < kSeldomLarger) return count;
  auto blob = descriptors_.open_object(node.object);
  if (!blob || blob->offset != 0) return count;
  auto attributes = stat_fd(blob->file->get());
  if (!attributes || static_cast<std::uint64_t>(attributes->st_size) != blob->size) return count;
  return std::min(count, static_cast<std::uint64_t>(attributes->st_blocks));
}

std::uint64_t Content::data_blocks(Ino ino, const Node& node) const {
  auto data = open(ino, node);
  if (!data) return blocks_of(node.size);
  if (data->is_shared()) return blocks_of_data(data->fd(), data->offset, data->offset + node.size);
  auto attributes = stat_fd(data->fd());
  if (!attributes) return blocks_of(node.size);
  auto count = static_cast<std::uint64_t>(attributes->st_blocks);
  if (node.object.is_zero()) return count;
  // Besides, blocks of the base that no extent touches; where one does, the data file has the block.
  std::uint64_t base = 0;
  std::uint64_t done = 0;
  auto add_base = [&](std::uint64_t end) {
    if (end > done) base += blocks_of(end - done);
  };
  for (const tree::Extent& extent : upper_->extents_within(ino, 0, node.base_size)) {
    add_base(extent.offset / kDiskBlock * kDiskBlock);
    done = std::max(done, (extent.offset + extent.length + kDiskBlock - 1) / kDiskBlock * kDiskBlock);
  }
  add_base(node.base_size);
  return count + std::min(base, object_blocks(node, node.base_size));
}

std::uint64_t Content::blocks(Ino ino, const Node& node) const {
  if (node.kind == NodeKind::kSymlink) return node.size < kFastLink ? 0 : blocks_of(node.size);
  if (node.kind != NodeKind::kRegular) return blocks_of(node.size);
  if (node.content == ContentKind::kNone) return 0;
  if (node.content == ContentKind::kObject) return object_blocks(node, node.size);
  bool may_differ = has_data_file(node.content) && (!node.object.is_zero() || node.base_size != 0);
  return may_differ ? data_blocks(ino, node) : blocks_of(node.size);
}

Result<std::uint64_t> Content::seek(Ino ino, const Node& node, std::uint64_t offset, int whence) const {
  if (offset >= node.size) return errno_error(ENXIO);
  LAYERFS_ASSIGN(auto all, pieces(ino, node, offset, node.size - offset));
  std::uint64_t at = offset;
  for (const ReadPiece& piece : all) {
    if (piece.file) {
      LAYERFS_ASSIGN(std::uint64_t found,
                     seek_in_file(piece.file->get(), piece.offset, piece.offset + piece.size, whence));
      if (found < piece.offset + piece.size) return at + (found - piece.offset);
    } else if (piece.bytes.empty() == (whence == SEEK_HOLE)) {
      return at;
    }
    at += piece.size;
  }
  if (whence == SEEK_HOLE) return node.size;  // the hole that is behind every file
  return errno_error(ENXIO);
}

Result<DataPlace> Content::open(Ino ino, const Node& node) const {
  if (node.content == ContentKind::kShared) return descriptors_.open_shared(ino);
  LAYERFS_ASSIGN(auto file, descriptors_.open_data(ino));
  return DataPlace{std::move(file)};
}

Result<void> Content::cut_tail(const DataPlace& data, std::uint64_t size) const {
  if (data.is_shared())
    return size < data.limit ? zero_range(data.fd(), data.offset + size, data.limit - size) : Result<void>{};
  LAYERFS_ASSIGN(struct stat attributes, stat_fd(data.fd()));
  if (static_cast<std::uint64_t>(attributes.st_size) <= size) return {};
  if (::ftruncate(data.fd(), static_cast<off_t>(size)) == 0) return {};
  int code = errno;
  return system_error(code, "truncate data file");
}

Result<void> Content::extend(const DataPlace& data, std::uint64_t size) {
  if (data.is_shared()) return {};
  LAYERFS_ASSIGN(struct stat attributes, stat_fd(data.fd()));
  if (static_cast<std::uint64_t>(attributes.st_size) >= size) return {};
  if (::ftruncate(data.fd(), static_cast<off_t>(size)) == 0) return {};
  int code = errno;
  return system_error(code, "extend data file");
}

Result<void> Content::cut_data(Ino ino, const Node& node) const {
  LAYERFS_ASSIGN(DataPlace data, open(ino, node));
  return cut_tail(data, node.size);
}

}  // namespace layerfs::unionfs
