// SPDX-License-Identifier: Apache-2.0
// CheckpointFile: ordered batches of record changes in one file (DELTA.md, "checkpoint"). It knows nothing of
// what the records mean. One thread at a time; another process may read meanwhile.
//
// (1) append() and replace() are atomic: after an error, or a crash at any instant, the file says what it
//     said before. With kDurable they are on disk on return.
// (2) Every byte that is read has been checked: damage is an error, or the end of the file where only a batch
//     that was never committed can be. The file is never mapped.
// (3) After a failed flush its bytes can't be trusted: append() is refused until a replace().
// (4) From keep_reserve() to drop_reserve() blocks of the disk are allocated behind its end, as far as there
//     were any, and a batch is committed only where it leaves what `Room` says (DELTA.md, "A full disk").
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/fd.h"
#include "fs/base/function_ref.h"
#include "fs/base/result.h"
#include "fs/upper/delta_tuning.h"

namespace layerfs::upper {

enum class CheckpointMode : std::uint8_t { kReadOnly, kDurable, kVolatile };

/// Changes of records, to a batch being written or from one being read.
class RecordSink {
 public:
  virtual ~RecordSink() = default;
  virtual Result<void> put(std::string_view key, std::string_view value) = 0;
  /// Nothing there is success.
  virtual Result<void> erase(std::string_view key) = 0;
  /// Erases every key that begins with `prefix`.
  virtual Result<void> erase_prefix(std::string_view prefix) = 0;
};

/// What a batch leaves of the blocks that are allocated behind the end of the file.
enum class Room : std::uint8_t {
  kLeaveReserve,  ///< all that is to be there
  kLeaveStep,     ///< as much as a step of a compaction takes: something was removed
  kTakeAll,
};

class CheckpointFile {
 public:
  /// The beginning of a block.
  struct Position {
    std::uint64_t at;
    std::uint64_t number;
  };
  struct OldestBlocks {
    std::vector<std::string> keys;  ///< that they put, sorted, each once
    Position next;                  ///< the block behind them, or the end
  };

  /// Opens `path`, created where it is not there (kReadOnly: ENOENT), and finds its last committed batch.
  /// Errors: kCorrupt, kUnsupported (version), ENOSPC, EIO...
  static Result<std::unique_ptr<CheckpointFile>> open(const std::string& path, CheckpointMode mode,
                                                      SyncOps& sync);

  /// Gives every committed change in order. Errors: kCorrupt, EIO, those of `sink`.
  Result<void> load(RecordSink& sink) const;
  using Fill = FunctionRef<Result<void>(RecordSink& batch)>;
  /// Brings to disk what a process that died may have left to the page cache, in whatever mode. Errors: EIO...
  Result<void> flush();
  /// Adds what `fill` gives as one batch. Errors: ENOSPC, EDQUOT, EIO, those of `fill`.
  Result<void> append(Fill fill, Room room = Room::kLeaveReserve);
  /// Puts a file in its place that has what `fill` gives and nothing else.
  Result<void> replace(Fill fill);

  /// The first blocks of about `length` bytes, at least one, of those before `end`. Requires: there is one.
  Result<OldestBlocks> oldest_blocks(std::uint64_t length, const Position& end) const;
  /// Lets the file begin at `first` and gives the bytes before it back. Requires: what they say is said again
  /// behind them, or not so any more. Errors: EIO...
  Result<void> drop_before(const Position& first);
  const Position& first() const { return first_; }
  /// The block that would be added next.
  Position next() const { return {end_, next_number_}; }

  /// Allocates the blocks behind the end, as far as they can be had. Cuts off what was never committed.
  void keep_reserve();
  /// Gives them back: no batch is to come.
  void drop_reserve();

  /// Bytes of the header and of the blocks up to the last committed one. 0: not even a header.
  std::uint64_t size() const { return end_ == 0 ? 0 : end_ - first_.at + kHeaderSize; }
  bool has_batch() const { return end_ > first_.at; }
  bool needs_replace() const { return needs_replace_; }
  /// True while `path` is still this file and has no further batch: what load() gave is what it says.
  Result<bool> is_current() const;

 private:
  static constexpr std::uint64_t kHeaderSize = 32;
  class Batch;
  CheckpointFile(std::string path, CheckpointMode mode, SyncOps& sync);
  static std::string encode_header(const Position& first);
  Result<void> find_end();
  Result<void> read_header(std::string_view header);
  Result<void> append_batch(Fill fill, Room room);
  Result<void> flush_entry();

  const std::string path_;
  const CheckpointMode mode_;
  SyncOps& sync_;
  Fd file_;
  Position first_{kHeaderSize, 1};
  std::uint64_t end_ = 0;          // 0: not even a header yet
  std::uint64_t next_number_ = 1;  // of the next block
  bool has_tail_ = false;          // bytes of an uncommitted batch lie behind end_
  bool needs_replace_ = false;
  bool entry_flushed_ = false;  // the directory's entry of the file
};

}  // namespace layerfs::upper
