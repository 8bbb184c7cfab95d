// SPDX-License-Identifier: Apache-2.0
// CheckpointFile: ordered batches of record changes in one file (DELTA.md, "checkpoint"). It knows nothing of
// what the records mean. One thread at a time; another process may read meanwhile.
//
// (1) append() and replace() are atomic: after an error, or a crash at any instant, the file says what it
//     said before. With kDurable they are on disk on return.
// (2) Every byte that is read has been checked: damage is an error, or the end of the file where only a batch
//     that was never committed can be. The file is never mapped.
// (3) After a failed flush its bytes can't be trusted: append() is refused until a replace().
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

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

class CheckpointFile {
 public:
  /// Opens `path`, created where it is not there (kReadOnly: ENOENT), and finds its last committed batch.
  /// Errors: kCorrupt, kUnsupported (version), ENOSPC, EIO...
  static Result<std::unique_ptr<CheckpointFile>> open(const std::string& path, CheckpointMode mode,
                                                      SyncOps& sync);

  /// Gives every committed change in order. Errors: kCorrupt, EIO, those of `sink`.
  Result<void> load(RecordSink& sink) const;
  using Fill = FunctionRef<Result<void>(RecordSink& batch)>;
  /// Adds what `fill` gives as one batch. Errors: ENOSPC, EDQUOT, EIO, those of `fill`.
  Result<void> append(Fill fill);
  /// Puts a file in its place that has what `fill` gives and nothing else.
  Result<void> replace(Fill fill);
  /// Gives the blocks back that are kept ready for the next batch: none is to come.
  void drop_reserve();
  /// Bytes up to the end of the last committed batch.
  std::uint64_t size() const { return end_; }
  bool needs_replace() const { return needs_replace_; }
  /// True while `path` is still this file and has no further batch: what load() gave is what it says.
  Result<bool> is_current() const;

 private:
  class Batch;
  CheckpointFile(std::string path, CheckpointMode mode, SyncOps& sync);
  Result<void> find_end();
  Result<void> append_batch(Fill fill);
  Result<void> flush_entry();
  void reserve() const;

  const std::string path_;
  const CheckpointMode mode_;
  SyncOps& sync_;
  Fd file_;
  std::uint64_t end_ = 0;          // 0: not even a header yet
  std::uint64_t next_number_ = 1;  // of the next block
  bool has_tail_ = false;          // bytes of an uncommitted batch lie behind end_
  bool needs_replace_ = false;
  bool entry_flushed_ = false;  // the directory's entry of the file
};

}  // namespace layerfs::upper
