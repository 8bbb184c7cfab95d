// SPDX-License-Identifier: Apache-2.0
#include "fs/store/sparse_name.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "fs/base/bytes.h"
#include "fs/base/sys_file.h"

namespace layerfs::store {

namespace {

constexpr std::string_view kMagic = "layerfs sparse 1\n";

bool is_zero(std::string_view bytes) {
  return bytes.empty() ||
         (bytes[0] == '\0' && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

std::string number(std::uint64_t value) {
  std::string bytes;
  append_le(bytes, value);
  return bytes;
}

}  // namespace

SparseNamer::SparseNamer() {
  hash_.update(kMagic);
  unit_.reserve(kSparseUnit);
}

void SparseNamer::end_unit() {
  if (!is_zero(unit_)) {
    hash_.update(number((size_ - unit_.size()) / kSparseUnit));
    hash_.update(unit_);
  }
  unit_.clear();
}

void SparseNamer::data(std::span<const std::byte> bytes) {
  std::string_view rest = as_text(bytes);
  while (!rest.empty()) {
    std::string_view piece = rest.substr(0, kSparseUnit - unit_.size());
    unit_ += piece;
    size_ += piece.size();
    rest.remove_prefix(piece.size());
    if (unit_.size() == kSparseUnit) end_unit();
  }
}

void SparseNamer::hole(std::uint64_t length) {
  auto fill = [&](std::uint64_t zeros) {
    unit_.append(static_cast<std::size_t>(zeros), '\0');
    size_ += zeros;
    length -= zeros;
    if (unit_.size() == kSparseUnit) end_unit();
  };
  if (!unit_.empty()) fill(std::min<std::uint64_t>(length, kSparseUnit - unit_.size()));
  std::uint64_t whole = length / kSparseUnit * kSparseUnit;
  size_ += whole;
  length -= whole;
  if (length > 0) fill(length);
}

Digest SparseNamer::finish() {
  end_unit();
  hash_.update(number(size_));
  Digest name = hash_.finish();
  for (auto& byte : name.bytes) byte = static_cast<std::uint8_t>(~byte);
  return name;
}

Result<Digest> sparse_name_of(int fd, std::uint64_t size) {
  SparseNamer namer;
  std::vector<std::byte> buffer(std::size_t{1} << 20);
  for (std::uint64_t at = 0; at < size;) {
    off_t data = ::lseek(fd, static_cast<off_t>(at), SEEK_DATA);
    if (data < 0 && errno != ENXIO && errno != EINVAL) return system_error(errno, "read object");
    // ENXIO: a hole to the end; EINVAL: a file system without holes.
    std::uint64_t from = data >= 0 ? static_cast<std::uint64_t>(data) : errno == ENXIO ? size : at;
    namer.hole(std::min(from, size) - at);
    at = std::min(from, size);
    if (at == size) break;
    off_t hole = ::lseek(fd, static_cast<off_t>(at), SEEK_HOLE);
    std::uint64_t end =
        hole > static_cast<off_t>(at) ? std::min(static_cast<std::uint64_t>(hole), size) : size;
    while (at < end) {
      auto piece =
          std::span(buffer).first(static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), end - at)));
      LAYERFS_ASSIGN(std::size_t got, pread_full(fd, piece, at));
      if (got != piece.size()) return corrupt_error("read object", {}, "it is cut short");
      namer.data(piece);
      at += got;
    }
  }
  return namer.finish();
}

}  // namespace layerfs::store
