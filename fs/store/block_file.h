// SPDX-License-Identifier: Apache-2.0
// A file of zstd-compressed, checksummed blocks with a footer: what a layer's records and framing are kept in
// (FORMAT.md, "Block file").
//
// (1) A block is handed out only after its checksum matched; then it is what was written.
// (2) A BlockFile may be read from many threads; each BlockReader by one.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "fs/base/fd.h"
#include "fs/base/result.h"

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace layerfs::store {

/// Values are on disk.
enum class BlockFileKind : std::uint32_t { kRecords = 1, kFraming = 2 };

/// Most raw bytes of a block, and of one item that add() is given.
inline constexpr std::size_t kMaxBlock = std::size_t{64} << 20;

class BlockWriter {
 public:
  /// Starts the file. Requires: `fd` is empty and open for writing.
  static Result<BlockWriter> make(Fd fd, BlockFileKind kind);
  BlockWriter(BlockWriter&&) noexcept;
  BlockWriter& operator=(BlockWriter&&) noexcept;
  ~BlockWriter();

  /// Appends bytes that stay in one block. Errors: ENOSPC, EIO; kInvalid above kMaxBlock.
  Result<void> add(std::string_view item);
  /// Writes the rest and the footer; writing to the disk starts.
  Result<void> finish(std::string_view footer);
  /// Waits until all is on disk, and closes the file. Requires: finish().
  Result<void> sync();

 private:
  explicit BlockWriter(Fd fd);
  Result<void> flush();

  Fd fd_;
  std::unique_ptr<ZSTD_CCtx_s, void (*)(ZSTD_CCtx_s*)> context_;
  std::string raw_;
  std::string stored_;
  std::uint64_t offset_ = 0;
};

class BlockFile {
 public:
  /// Opens and checks head, tail and footer. Errors: ENOENT, kCorrupt, kUnsupported (a newer version).
  static Result<BlockFile> open(const std::string& path, BlockFileKind kind);
  /// The same of a file that is open already; `path` is what errors call it.
  static Result<BlockFile> open(Fd fd, const std::string& path, BlockFileKind kind);
  const std::string& footer() const { return footer_; }

 private:
  friend class BlockReader;
  Fd fd_;
  std::string path_;
  std::string footer_;
  std::uint64_t end_ = 0;  // of the blocks
};

/// Goes through the blocks once, from the start. Requires: the BlockFile outlives it.
class BlockReader {
 public:
  explicit BlockReader(const BlockFile& file);
  /// The next block's raw bytes, valid until the next call; empty at the end. Errors: kCorrupt, EIO.
  Result<std::string_view> next();

 private:
  const BlockFile& file_;
  std::unique_ptr<ZSTD_DCtx_s, void (*)(ZSTD_DCtx_s*)> context_;
  std::string stored_;
  std::string raw_;
  std::uint64_t offset_;
};

}  // namespace layerfs::store
