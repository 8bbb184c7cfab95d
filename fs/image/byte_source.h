// SPDX-License-Identifier: Apache-2.0
// ByteSource: bytes read from front to back, once. A FileRange is a part of a file that many may read; a
// decompressor (decompress.h) is a ByteSource over another one.
//
// (1) read() returns 0 only at the end; then always.
// (2) One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "fs/base/fd.h"
#include "fs/base/result.h"

namespace layerfs::image {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// Fills up to `buffer.size()` bytes. Requires: the buffer is not empty.
  virtual Result<std::size_t> read(std::span<std::byte> buffer) = 0;
};

/// `size` bytes at `offset` of a file: a blob of a layout directory, or a member of an archive.
struct FileRange {
  std::shared_ptr<const Fd> file;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
};

/// Reads a range by pread(2). Errors: kCorrupt where the file ends before the range does.
class RangeSource final : public ByteSource {
 public:
  explicit RangeSource(FileRange range) : range_(std::move(range)) {}
  Result<std::size_t> read(std::span<std::byte> buffer) override;
  std::uint64_t position() const { return at_; }

 private:
  FileRange range_;
  std::uint64_t at_ = 0;
};

/// Reads a descriptor (pipe, terminal, file) from where it stands. The descriptor is not owned.
class StreamSource final : public ByteSource {
 public:
  explicit StreamSource(int fd) : fd_(fd) {}
  Result<std::size_t> read(std::span<std::byte> buffer) override;

 private:
  int fd_;
};

/// Reads bytes in memory, at most `piece` at a time (tests look for bugs at every boundary).
class MemorySource final : public ByteSource {
 public:
  explicit MemorySource(std::string_view bytes, std::size_t piece = SIZE_MAX) : rest_(bytes), piece_(piece) {}
  Result<std::size_t> read(std::span<std::byte> buffer) override;

 private:
  std::string_view rest_;
  std::size_t piece_;
};

/// The whole range. Errors: kInvalid where it is longer than `limit`.
Result<std::string> read_range(const FileRange& range, std::uint64_t limit);

}  // namespace layerfs::image
