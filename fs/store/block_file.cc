// SPDX-License-Identifier: Apache-2.0
#include "fs/store/block_file.h"

#include <fcntl.h>
#include <zstd.h>

#include <new>
#include <span>

#include "fs/base/bytes.h"
#include "fs/base/sys_file.h"
#include "fs/store/pack_file.h"
#include "fs/store/xxh64.h"

namespace layerfs::store {

namespace {

constexpr std::string_view kBlockMagic = "LFSBLOCK";
constexpr std::string_view kEndMagic = "LEND";
constexpr std::uint32_t kBlockVersion = 1;
constexpr std::size_t kHeadSize = 16;
constexpr std::size_t kBlockHeadSize = 16;
constexpr std::size_t kTailSize = 24;
constexpr std::size_t kMaxFooter = 4096;
/// A block is written once it has this many raw bytes.
constexpr std::size_t kBlockSize = 256 * 1024;
/// Layers are written once and read seldom, and import should not wait for them.
constexpr int kLevel = 1;

void free_compressor(ZSTD_CCtx_s* context) { ZSTD_freeCCtx(context); }
void free_decompressor(ZSTD_DCtx_s* context) { ZSTD_freeDCtx(context); }

std::span<std::byte> writable(std::string& text) { return std::as_writable_bytes(std::span(text)); }

/// Reads `size` bytes at `offset`; a short file is corrupt.
Result<void> read_exactly(int fd, std::string& to, std::size_t size, std::uint64_t offset,
                          const std::string& path) {
  to.resize(size);
  auto got = pread_full(fd, writable(to), offset);
  if (!got) return with_context(got.error(), "read", path);
  if (*got != size) return corrupt_error("read", path, "the file is cut short");
  return {};
}

}  // namespace

BlockWriter::BlockWriter(Fd fd) : fd_(std::move(fd)), context_(ZSTD_createCCtx(), &free_compressor) {
  if (!context_) throw std::bad_alloc();
}
BlockWriter::BlockWriter(BlockWriter&&) noexcept = default;
BlockWriter& BlockWriter::operator=(BlockWriter&&) noexcept = default;
BlockWriter::~BlockWriter() = default;

Result<BlockWriter> BlockWriter::make(Fd fd, BlockFileKind kind) {
  BlockWriter writer(std::move(fd));
  std::string head(kBlockMagic);
  append_le(head, kBlockVersion);
  append_le(head, static_cast<std::uint32_t>(kind));
  LAYERFS_TRY(write_full(writer.fd_.get(), as_bytes(head)));
  writer.offset_ = head.size();
  return writer;
}

Result<void> BlockWriter::add(std::string_view item) {
  if (item.size() > kMaxBlock) return invalid_error("store layer", {}, "an entry's metadata is too large");
  if (raw_.size() + item.size() > kMaxBlock) LAYERFS_TRY(flush());
  raw_ += item;
  return raw_.size() >= kBlockSize ? flush() : Result<void>{};
}

Result<void> BlockWriter::flush() {
  if (raw_.empty()) return {};
  stored_.resize(kBlockHeadSize + ZSTD_compressBound(raw_.size()));
  std::size_t size = ZSTD_compressCCtx(context_.get(), stored_.data() + kBlockHeadSize,
                                       stored_.size() - kBlockHeadSize, raw_.data(), raw_.size(), kLevel);
  if (ZSTD_isError(size) != 0) return system_error(ENOMEM, "compress", ZSTD_getErrorName(size));
  stored_.resize(kBlockHeadSize + size);
  std::string head;
  append_le(head, static_cast<std::uint32_t>(size));
  append_le(head, static_cast<std::uint32_t>(raw_.size()));
  append_le(head, xxh64(std::string_view(stored_).substr(kBlockHeadSize)));
  stored_.replace(0, kBlockHeadSize, head);
  LAYERFS_TRY(write_full(fd_.get(), as_bytes(stored_)));
  offset_ += stored_.size();
  raw_.clear();
  return {};
}

Result<void> BlockWriter::finish(std::string_view footer) {
  LAYERFS_TRY(flush());
  std::string end(footer);
  append_le(end, offset_);
  append_le(end, xxh64(footer));
  append_le(end, static_cast<std::uint32_t>(footer.size()));
  end += kEndMagic;
  LAYERFS_TRY(write_full(fd_.get(), as_bytes(end)));
  start_writeback(fd_.get(), 0, offset_ + end.size());
  return {};
}

Result<void> BlockWriter::sync() {
  LAYERFS_TRY(sync_fd(fd_.get()));
  fd_.reset();
  return {};
}

Result<BlockFile> BlockFile::open(const std::string& path, BlockFileKind kind) {
  LAYERFS_ASSIGN(Fd fd, open_file(path, O_RDONLY));
  return open(std::move(fd), path, kind);
}

Result<BlockFile> BlockFile::open(Fd fd, const std::string& path, BlockFileKind kind) {
  BlockFile file;
  file.fd_ = std::move(fd);
  file.path_ = path;
  LAYERFS_ASSIGN(struct stat st, stat_fd(file.fd_.get()));
  auto size = static_cast<std::uint64_t>(st.st_size);
  std::string bytes;
  if (size < kHeadSize + kTailSize) return corrupt_error("open", path, "the file is cut short");
  LAYERFS_TRY(read_exactly(file.fd_.get(), bytes, kHeadSize, 0, path));
  if (!bytes.starts_with(kBlockMagic)) return corrupt_error("open", path, "not a block file");
  if (load_le<std::uint32_t>(bytes.data() + 8) != kBlockVersion)
    return unsupported_error("open", path, "written by a newer version of layerfs");
  if (load_le<std::uint32_t>(bytes.data() + 12) != static_cast<std::uint32_t>(kind))
    return corrupt_error("open", path, "a block file of another kind");
  LAYERFS_TRY(read_exactly(file.fd_.get(), bytes, kTailSize, size - kTailSize, path));
  ByteReader tail(bytes);
  file.end_ = tail.le<std::uint64_t>();
  auto checksum = tail.le<std::uint64_t>();
  auto footer_size = tail.le<std::uint32_t>();
  if (tail.rest() != kEndMagic || footer_size > kMaxFooter || file.end_ < kHeadSize ||
      file.end_ != size - kTailSize - footer_size)
    return corrupt_error("open", path, "its end is damaged");
  LAYERFS_TRY(read_exactly(file.fd_.get(), file.footer_, footer_size, file.end_, path));
  if (xxh64(file.footer_) != checksum) return corrupt_error("open", path, "its footer is damaged");
  return file;
}

BlockReader::BlockReader(const BlockFile& file)
    : file_(file), context_(ZSTD_createDCtx(), &free_decompressor), offset_(kHeadSize) {
  if (!context_) throw std::bad_alloc();
}

Result<std::string_view> BlockReader::next() {
  if (offset_ == file_.end_) return std::string_view{};
  std::uint64_t left = file_.end_ - offset_;
  if (left < kBlockHeadSize) return corrupt_error("read", file_.path_, "a block is cut short");
  LAYERFS_TRY(read_exactly(file_.fd_.get(), stored_, kBlockHeadSize, offset_, file_.path_));
  auto size = load_le<std::uint32_t>(stored_.data());
  auto raw_size = load_le<std::uint32_t>(stored_.data() + 4);
  auto checksum = load_le<std::uint64_t>(stored_.data() + 8);
  if (size > left - kBlockHeadSize || raw_size == 0 || raw_size > kMaxBlock)
    return corrupt_error("read", file_.path_, "a block's head is damaged");
  LAYERFS_TRY(read_exactly(file_.fd_.get(), stored_, size, offset_ + kBlockHeadSize, file_.path_));
  if (xxh64(stored_) != checksum) return corrupt_error("read", file_.path_, "a block is damaged");
  raw_.resize(raw_size);
  std::size_t got =
      ZSTD_decompressDCtx(context_.get(), raw_.data(), raw_.size(), stored_.data(), stored_.size());
  if (ZSTD_isError(got) != 0 || got != raw_size)
    return corrupt_error("read", file_.path_, "a block is damaged");
  offset_ += kBlockHeadSize + size;
  return std::string_view(raw_);
}

}  // namespace layerfs::store
