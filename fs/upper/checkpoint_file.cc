// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/checkpoint_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "fs/base/bytes.h"
#include "fs/base/log.h"
#include "fs/base/sys_file.h"
#include "fs/upper/crc32c.h"
#include "fs/upper/upper_file.h"

namespace layerfs::upper {

namespace {

constexpr std::string_view kCheckpointMagic = "LFSCKPT1";
constexpr std::uint32_t kCheckpointVersion = 4;
/// Has no kShared; 2 has no lengths of data files, 3 does not say where the first block is; otherwise the
/// same.
constexpr std::uint32_t kOldestCheckpointVersion = 1;
/// The first version of which the header says where the first block is.
constexpr std::uint32_t kVersionWithFirst = 4;
constexpr std::size_t kBlockHeaderSize = 24;
constexpr std::uint32_t kFlagCommit = 1;
/// A block is written once it is this long.
constexpr std::size_t kBlockSize = 256U << 10;
/// No block is longer: the longest value and its key.
constexpr std::size_t kLongestBlock = std::size_t{1} << 30;
constexpr std::size_t kLongestKey = 1024;
/// What is to be allocated behind the end, and how much of it a step of a compaction may take.
constexpr std::uint64_t kReserve = std::uint64_t{3} << 20;
constexpr std::uint64_t kStepReserve = std::uint64_t{1} << 20;

enum RecordOp : std::uint8_t { kPut = 1, kErase = 2, kErasePrefix = 3 };

struct BlockHeader {
  std::uint32_t crc;
  std::uint32_t length;
  std::uint64_t number;
  std::uint32_t flags;
};

std::uint64_t left_by(Room room) {
  switch (room) {
    case Room::kLeaveReserve: return kReserve;
    case Room::kLeaveStep: return kStepReserve;
    case Room::kTakeAll: break;
  }
  return 0;
}

/// Allocates blocks that do not count to the file's size. A file system that can't has nothing to promise.
Result<void> allocate_behind(int fd, std::uint64_t at, std::uint64_t length) {
  if (length == 0 ||
      fallocate(fd, FALLOC_FL_KEEP_SIZE, static_cast<off_t>(at), static_cast<off_t>(length)) == 0)
    return {};
  const int code = errno;
  if (code == EOPNOTSUPP || code == ENOSYS || code == EINVAL) return {};
  return system_error(code, "allocate blocks behind a checkpoint");
}

/// Reads blocks one after another from an open file.
class BlockReader {
 public:
  BlockReader(int fd, std::uint64_t file_size, const CheckpointFile::Position& begin)
      : fd_(fd), file_size_(file_size), at_(begin.at), number_(begin.number) {}

  /// The next block, whole and with the next number; nullopt: there is none.
  Result<std::optional<BlockHeader>> next() {
    std::array<std::byte, kBlockHeaderSize> bytes;
    LAYERFS_ASSIGN(const std::size_t got, pread_full(fd_, bytes, at_));
    if (got < bytes.size()) return std::optional<BlockHeader>{};
    ByteReader from(as_text(bytes));
    BlockHeader header{};
    header.crc = from.le<std::uint32_t>();
    header.length = from.le<std::uint32_t>();
    header.number = from.le<std::uint64_t>();
    header.flags = from.le<std::uint32_t>();
    // The length is checked against the file before anything is allocated for it.
    if (header.number != number_ || header.length == 0 || header.length > kLongestBlock ||
        header.length > file_size_ - std::min(file_size_, at_ + kBlockHeaderSize))
      return std::optional<BlockHeader>{};
    payload_.resize(header.length);
    LAYERFS_ASSIGN(const std::size_t body,
                   pread_full(fd_, std::as_writable_bytes(std::span(payload_)), at_ + kBlockHeaderSize));
    if (body < payload_.size() || header.crc != crc32c(payload_, crc32c(as_text(bytes).substr(4))))
      return std::optional<BlockHeader>{};
    at_ += kBlockHeaderSize + header.length;
    ++number_;
    return std::optional(header);
  }
  std::string_view payload() const { return payload_; }
  std::uint64_t at() const { return at_; }
  std::uint64_t number() const { return number_; }

 private:
  int fd_;
  std::uint64_t file_size_;
  std::uint64_t at_;
  std::uint64_t number_;
  std::string payload_;
};

Result<void> give_changes(std::string_view payload, RecordSink& sink) {
  ByteReader from(payload);
  while (!from.done()) {
    const auto op = from.le<std::uint8_t>();
    const auto key_size = from.le<std::uint16_t>();
    const std::string_view key = from.take(key_size);
    if (op == kPut) {
      const auto value_size = from.le<std::uint32_t>();
      const std::string_view value = from.take(value_size);
      if (!from.ok()) break;
      LAYERFS_TRY(sink.put(key, value));
      continue;
    }
    if (!from.ok() || (op != kErase && op != kErasePrefix)) break;
    LAYERFS_TRY(op == kErase ? sink.erase(key) : sink.erase_prefix(key));
  }
  if (!from.done()) return corrupt_error("read checkpoint", {}, "not a list of changes");
  return {};
}

/// Collects the keys that are put.
class KeyCollector final : public RecordSink {
 public:
  Result<void> put(std::string_view key, std::string_view) override {
    keys.emplace_back(key);
    return {};
  }
  Result<void> erase(std::string_view) override { return {}; }
  Result<void> erase_prefix(std::string_view) override { return {}; }
  std::vector<std::string> keys;
};

}  // namespace

std::string CheckpointFile::encode_header(const Position& first) {
  std::string header(kCheckpointMagic);
  append_le(header, kCheckpointVersion);
  append_le(header, first.at);
  append_le(header, first.number);
  append_le(header, crc32c(header));
  return header;
}

/// Writes a batch, block by block.
class CheckpointFile::Batch final : public RecordSink {
 public:
  Batch(int fd, std::uint64_t at, std::uint64_t number) : fd_(fd), at_(at), number_(number) {
    block_.resize(kBlockHeaderSize);
  }

  Result<void> put(std::string_view key, std::string_view value) override {
    LAYERFS_TRY(add(kPut, key, value.size() + 4));
    append_le(block_, static_cast<std::uint32_t>(value.size()));
    block_ += value;
    return {};
  }
  Result<void> erase(std::string_view key) override { return add(kErase, key, 0); }
  Result<void> erase_prefix(std::string_view prefix) override { return add(kErasePrefix, prefix, 0); }
  Result<void> commit() { return write_block(kFlagCommit); }
  /// Where it ends when it is committed.
  std::uint64_t end() const { return at_ + block_.size(); }
  std::uint64_t at() const { return at_; }
  std::uint64_t number() const { return number_; }

 private:
  Result<void> add(RecordOp op, std::string_view key, std::size_t further) {
    if (key.size() > kLongestKey || further > kLongestBlock / 2)
      return invalid_error("write checkpoint", {}, "a record is too long");
    if (block_.size() >= kBlockSize) LAYERFS_TRY(write_block(0));
    append_le(block_, static_cast<std::uint8_t>(op));
    append_le(block_, static_cast<std::uint16_t>(key.size()));
    block_ += key;
    return {};
  }
  Result<void> write_block(std::uint32_t flags) {
    // A commit without a change still needs a byte: nothing is erased.
    if (block_.size() == kBlockHeaderSize) {
      append_le(block_, static_cast<std::uint8_t>(kErase));
      append_le(block_, std::uint16_t{0});
    }
    std::string header;
    append_le(header, static_cast<std::uint32_t>(block_.size() - kBlockHeaderSize));
    append_le(header, number_);
    append_le(header, flags);
    append_le(header, std::uint32_t{0});
    std::string crc;
    append_le(crc, crc32c(std::string_view(block_).substr(kBlockHeaderSize), crc32c(header)));
    block_.replace(0, 4, crc);
    block_.replace(4, header.size(), header);
    LAYERFS_TRY(pwrite_full(fd_, as_bytes(block_), at_));
    at_ += block_.size();
    ++number_;
    block_.resize(kBlockHeaderSize);
    return {};
  }

  int fd_;
  std::uint64_t at_;
  std::uint64_t number_;
  std::string block_;
};

CheckpointFile::CheckpointFile(std::string path, CheckpointMode mode, SyncOps& sync)
    : path_(std::move(path)), mode_(mode), sync_(sync) {}

Result<std::unique_ptr<CheckpointFile>> CheckpointFile::open(const std::string& path, CheckpointMode mode,
                                                             SyncOps& sync) {
  std::unique_ptr<CheckpointFile> file(new CheckpointFile(path, mode, sync));
  const int flags = mode == CheckpointMode::kReadOnly ? O_RDONLY : O_RDWR | O_CREAT;
  LAYERFS_ASSIGN(file->file_, open_upper_file(path, flags, 0600));
  LAYERFS_TRY(file->find_end());
  return file;
}

Result<void> CheckpointFile::find_end() {
  LAYERFS_ASSIGN(const auto st, stat_fd(file_.get()));
  const auto file_size = static_cast<std::uint64_t>(st.st_size);
  std::string header(kHeaderSize, '\0');
  LAYERFS_ASSIGN(const std::size_t got,
                 pread_full(file_.get(), std::as_writable_bytes(std::span(header)), 0));
  has_tail_ = file_size != 0;
  // Nothing, or zeros: it was made and a power failure came before its first flush.
  if (header.find_first_not_of('\0') == std::string::npos) return {};
  if (got < kHeaderSize) return corrupt_error("open", path_, "not a checkpoint");
  LAYERFS_TRY(read_header(header));
  end_ = first_.at;
  next_number_ = first_.number;
  BlockReader reader(file_.get(), file_size, first_);
  for (;;) {
    LAYERFS_ASSIGN(const auto block, reader.next());
    if (!block) break;
    if ((block->flags & kFlagCommit) == 0) continue;
    end_ = reader.at();
    next_number_ = reader.number();
  }
  // Blocks are dropped from its front only when others are behind them.
  if (first_.at != kHeaderSize && !has_batch()) return corrupt_error("open", path_, "its blocks are damaged");
  has_tail_ = file_size > end_;
  return {};
}

Result<void> CheckpointFile::read_header(std::string_view header) {
  if (!header.starts_with(kCheckpointMagic)) return corrupt_error("open", path_, "not a checkpoint");
  ByteReader from(header.substr(kCheckpointMagic.size()));
  const auto version = from.le<std::uint32_t>();
  if (version < kOldestCheckpointVersion || version > kCheckpointVersion)
    return unsupported_error("open", path_, fmt::format("version {} is not known", version));
  const Position first{from.le<std::uint64_t>(), from.le<std::uint64_t>()};
  const bool is_old = version < kVersionWithFirst;
  const bool is_sound =
      is_old ? first.at == 0 && first.number == 0 : first.at >= kHeaderSize && first.number != 0;
  if (!is_sound || from.le<std::uint32_t>() != crc32c(header.substr(0, kHeaderSize - 4)))
    return corrupt_error("open", path_, "its header is damaged");
  if (!is_old) first_ = first;
  // From here on it may get what the older version did not have.
  if (version != kCheckpointVersion && mode_ != CheckpointMode::kReadOnly)
    LAYERFS_TRY(pwrite_full(file_.get(), as_bytes(encode_header(first_)), 0));
  return {};
}

Result<void> CheckpointFile::load(RecordSink& sink) const {
  if (end_ == 0) return {};
  BlockReader reader(file_.get(), end_, first_);
  while (reader.at() < end_) {
    LAYERFS_ASSIGN(const auto block, reader.next());
    if (!block) return corrupt_error("read", path_, "it changed while it was read");
    if (auto given = give_changes(reader.payload(), sink); !given)
      return with_context(given.error(), "read", path_);
  }
  return {};
}

Result<CheckpointFile::OldestBlocks> CheckpointFile::oldest_blocks(std::uint64_t length,
                                                                   const Position& end) const {
  KeyCollector collector;
  BlockReader reader(file_.get(), end_, first_);
  do {
    LAYERFS_ASSIGN(const auto block, reader.next());
    if (!block) return corrupt_error("read", path_, "a block is damaged");
    if (auto given = give_changes(reader.payload(), collector); !given)
      return with_context(given.error(), "read", path_);
  } while (reader.number() < end.number && reader.at() - first_.at < length);
  std::sort(collector.keys.begin(), collector.keys.end());
  collector.keys.erase(std::unique(collector.keys.begin(), collector.keys.end()), collector.keys.end());
  return OldestBlocks{std::move(collector.keys), {reader.at(), reader.number()}};
}

Result<void> CheckpointFile::drop_before(const Position& first) {
  LAYERFS_TRY(pwrite_full(file_.get(), as_bytes(encode_header(first)), 0));
  if (mode_ == CheckpointMode::kDurable) {
    // Until it is on disk the blocks are needed: the header before it may be what a power failure leaves.
    if (auto flushed = sync_.sync_data(file_.get()); !flushed) {
      needs_replace_ = true;
      return flushed;
    }
  }
  const std::uint64_t from = std::exchange(first_, first).at;
  LAYERFS_TRY(zero_range(file_.get(), from, first.at - from));
  keep_reserve();
  return {};
}

Result<void> CheckpointFile::flush() {
  LAYERFS_TRY(sync_.sync_data(file_.get()));
  return flush_entry();
}

/// A new file is not there after a power failure unless its directory has been flushed.
Result<void> CheckpointFile::flush_entry() {
  if (entry_flushed_) return {};
  LAYERFS_ASSIGN(const Fd dir, open_file(path_.substr(0, path_.rfind('/')), O_RDONLY | O_DIRECTORY));
  LAYERFS_TRY(sync_.sync_all(dir.get()));
  entry_flushed_ = true;
  return {};
}

void CheckpointFile::keep_reserve() {
  if (mode_ == CheckpointMode::kReadOnly) return;
  if (has_tail_ && ftruncate(file_.get(), static_cast<off_t>(end_)) == 0) has_tail_ = false;
  // What can't be had now is not missed now: the next batch says so.
  for (const std::uint64_t length : {kReserve, kStepReserve})
    if (allocate_behind(file_.get(), end_, length)) return;
}

void CheckpointFile::drop_reserve() {
  if (mode_ == CheckpointMode::kReadOnly) return;
  if (ftruncate(file_.get(), static_cast<off_t>(end_)) != 0)
    log_warning("give back the blocks reserved for '{}': {}", path_, errno_text(errno));
  else
    has_tail_ = false;
}

Result<void> CheckpointFile::append(Fill fill, Room room) {
  if (mode_ == CheckpointMode::kReadOnly) return errno_error(EROFS);
  if (needs_replace_) return system_error(EIO, "write", path_);
  // The bytes of a batch that was not committed go first: its later blocks could follow on a shorter new one.
  if (has_tail_ && ftruncate(file_.get(), static_cast<off_t>(end_)) != 0)
    return system_error(errno, "cut", path_);
  has_tail_ = true;
  if (end_ == 0) {
    LAYERFS_TRY(pwrite_full(file_.get(), as_bytes(encode_header(first_)), 0));
    end_ = first_.at;
  }
  auto appended = append_batch(fill, room);
  // After an error its space is wanted elsewhere, but for what the next try begins with.
  if (!appended) keep_reserve();
  return appended;
}

Result<void> CheckpointFile::append_batch(Fill fill, Room room) {
  Batch batch(file_.get(), end_, next_number_);
  LAYERFS_TRY(fill(batch));
  LAYERFS_TRY(allocate_behind(file_.get(), batch.end(), left_by(room)));
  LAYERFS_TRY(batch.commit());
  if (mode_ == CheckpointMode::kDurable) {
    if (auto flushed = sync_.sync_data(file_.get()); !flushed) {
      needs_replace_ = true;
      return flushed;
    }
    LAYERFS_TRY(flush_entry());
  }
  end_ = batch.at();
  next_number_ = batch.number();
  has_tail_ = false;
  return {};
}

Result<void> CheckpointFile::replace(Fill fill) {
  if (mode_ == CheckpointMode::kReadOnly) return errno_error(EROFS);
  const std::string fresh_path = path_ + ".new";
  LAYERFS_TRY(remove_tree(fresh_path));  // of an attempt that did not end, or whatever lies there
  LAYERFS_ASSIGN(Fd fresh, open_upper_file(fresh_path, O_RDWR | O_CREAT | O_EXCL, 0600));
  // What is kept ready behind the old one is for the new one.
  if (ftruncate(file_.get(), static_cast<off_t>(end_)) != 0) return system_error(errno, "cut", path_);
  has_tail_ = false;
  constexpr Position kFirst{kHeaderSize, 1};
  auto written = pwrite_full(fresh.get(), as_bytes(encode_header(kFirst)), 0);
  Batch batch(fresh.get(), kHeaderSize, 1);
  if (written) written = fill(batch);
  if (written) written = allocate_behind(fresh.get(), batch.end(), left_by(Room::kLeaveReserve));
  if (written) written = batch.commit();
  if (written && mode_ == CheckpointMode::kDurable) written = sync_.sync_data(fresh.get());
  if (written) written = rename_file(fresh_path, path_);
  if (!written) {
    // Its space is wanted where the disk is full; the first error is the one to tell.
    if (auto removed = unlink_at(AT_FDCWD, fresh_path, 0); !removed)
      log_debug("{}", removed.error().message());
    keep_reserve();
    return written;
  }
  // From here on the new file is the file, whatever the flush of the directory says.
  file_ = std::move(fresh);
  first_ = kFirst;
  end_ = batch.at();
  next_number_ = batch.number();
  has_tail_ = false;
  needs_replace_ = false;
  entry_flushed_ = false;
  return mode_ == CheckpointMode::kDurable ? flush_entry() : Result<void>{};
}

Result<bool> CheckpointFile::is_current() const {
  LAYERFS_ASSIGN(const auto here, stat_fd(file_.get()));
  LAYERFS_ASSIGN(const auto there, find_stat_at(AT_FDCWD, path_, AT_SYMLINK_NOFOLLOW));
  if (!there || here.st_ino != there->st_ino || here.st_dev != there->st_dev) return false;
  BlockReader reader(file_.get(), static_cast<std::uint64_t>(here.st_size),
                     {std::max(end_, first_.at), next_number_});
  for (;;) {
    LAYERFS_ASSIGN(const auto block, reader.next());
    if (!block) return true;
    if ((block->flags & kFlagCommit) != 0) return false;
  }
}

}  // namespace layerfs::upper
