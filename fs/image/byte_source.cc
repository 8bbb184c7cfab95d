// SPDX-License-Identifier: Apache-2.0
#include "fs/image/byte_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "fs/base/sys_file.h"

namespace layerfs::image {

Result<std::size_t> RangeSource::read(std::span<std::byte> buffer) {
  std::uint64_t left = range_.size - at_;
  if (left == 0) return 0;
  auto piece = buffer.first(static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), left)));
  LAYERFS_ASSIGN(std::size_t got, pread_full(range_.file->get(), piece, range_.offset + at_));
  if (got < piece.size())
    return corrupt_error("read", fmt::format("{} bytes", range_.size),
                         fmt::format("the file ends {} bytes early", left - got));
  at_ += got;
  return got;
}

Result<std::size_t> StreamSource::read(std::span<std::byte> buffer) { return read_full(fd_, buffer); }

Result<std::size_t> MemorySource::read(std::span<std::byte> buffer) {
  std::size_t size = std::min({buffer.size(), rest_.size(), piece_});
  if (size == 0) return 0;
  std::memcpy(buffer.data(), rest_.data(), size);
  rest_.remove_prefix(size);
  return size;
}

Result<std::string> read_range(const FileRange& range, std::uint64_t limit) {
  if (range.size > limit) return invalid_error("read", {}, fmt::format("longer than {} bytes", limit));
  std::string bytes(static_cast<std::size_t>(range.size), '\0');
  LAYERFS_ASSIGN(std::size_t got,
                 pread_full(range.file->get(), std::as_writable_bytes(std::span(bytes)), range.offset));
  if (got < bytes.size()) return corrupt_error("read", {}, "the file ends early");
  return bytes;
}

}  // namespace layerfs::image
