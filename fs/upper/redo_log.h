// SPDX-License-Identifier: Apache-2.0
// RedoLog: the log that is being written (DELTA.md, "redo.log"), as a shared mapping of preallocated
// segments.
//
// (1) append() makes no system call, but for a segment, or two (4), where none is ready. What it has written
//     survives the process.
// (2) append() is called under the owner's write lock; every other function from any thread.
// (3) A segment is given back by release() only. One that was just given back is used last, so that the
//     numbers of recent requests stay readable in it.
// (4) The last free segment is for changes that remove something, kMarkReserve of each for marks.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fs/base/fd.h"
#include "fs/base/function_ref.h"
#include "fs/base/result.h"
#include "fs/upper/delta_tuning.h"
#include "fs/upper/redo_scan.h"

namespace layerfs::upper {

enum class AppendKind : std::uint8_t {
  kNormal,
  kFreeing,  ///< removes something: may use the last free segment
  kMark,     ///< may use the end of a segment too
};

class RedoLog {
 public:
  struct Settings {
    bool is_volatile = false;
    std::uint32_t max_segments = kMaxSegments;
    std::uint32_t segment_size = 1U << 20;  ///< of a new log
    SyncOps* sync = nullptr;
    BootId boot_id{};
  };

  /// A log without records in `path` (created or emptied), under a new log id; the next record is `next_seq`.
  /// A new file is on disk with its name before there is anything of the log, and never without its header,
  /// unless the log is volatile: whoever finds none where there was one knows that it was lost. Errors:
  /// ENOSPC, EDQUOT, EIO...
  static Result<std::unique_ptr<RedoLog>> start(const std::string& path, const Settings& settings,
                                                std::uint64_t next_seq);
  /// Goes on with the log that `scan` was made of, behind its last record `last_seq`. Records up to `covered`
  /// are not needed any more. What there is of it is flushed first, so that of two marks the later says that
  /// the flush of the earlier has ended. Requires: same boot, `scan` of this version, read under the delta's
  /// lock.
  static Result<std::unique_ptr<RedoLog>> resume(const std::string& path, const Settings& settings,
                                                 const RedoScan& scan, std::uint64_t last_seq,
                                                 std::uint64_t covered);
  ~RedoLog();
  RedoLog(const RedoLog&) = delete;
  RedoLog& operator=(const RedoLog&) = delete;

  /// Adds a record and returns its number. Requires: the write lock; `body_crc` is crc32c(body).
  /// Errors: E2BIG (longer than max_body()); ENOSPC, EDQUOT, EIO (no segment is free and none can be made).
  Result<std::uint64_t> append(std::string_view body, std::uint32_t body_crc, AppendKind kind);
  std::size_t max_body() const {
    return segment_size_ - kSegmentHeaderSize - kMarkReserve - kRecordHeaderSize - 8;
  }
  /// The number of the last record.
  std::uint64_t last_seq() const { return last_seq_.load(std::memory_order_acquire); }

  /// Every record from `from` to `to`. Requires: not released; `to` <= last_seq().
  Result<void> walk(std::uint64_t from, std::uint64_t to,
                    FunctionRef<Result<void>(std::uint64_t seq, std::string_view body)> visit) const;
  /// Gives back the segments whose records are all <= `covered`.
  void release(std::uint64_t covered);
  /// The last record of the oldest segment that is full; 0: there is none.
  std::uint64_t oldest_end() const;
  /// True where a normal record can be appended without growth.
  bool has_room() const;
  /// Segments in use, the one being written included.
  std::size_t used_segments() const;
  /// What they take on the disk.
  std::uint64_t used_bytes() const { return std::uint64_t{segment_size_} * used_segments(); }
  /// True where the segment being written is half full and no second one is ready behind it.
  bool wants_segment() const { return wants_segment_.load(std::memory_order_relaxed); }
  /// True once after append() has seen something that the background should look at: wants_segment() or
  /// another segment in use. Requires: the write lock.
  bool take_attention() { return std::exchange(attention_, false); }
  /// Makes one more segment ready. Errors: ENOSPC (also: no more are allowed), EDQUOT, EIO.
  Result<void> add_segment();

  /// Everything appended so far is on disk on return.
  Result<void> flush();
  /// Lets the next record begin a segment: what lies before it can't be trusted. Requires: the write lock.
  void seal() { end_ = at_; }
  /// Takes seal() back, unless a record came since. Requires: the write lock.
  void unseal();
  /// Cuts the log down to its header, which says that the next record is `next_seq`. Requires: the checkpoint
  /// covers all before; nothing is appended any more.
  Result<void> close_empty(std::uint64_t next_seq);

 private:
  struct Segment {
    std::uint32_t index = 0;
    std::uint64_t first_seq = 0;
    std::uint64_t last_seq = 0;
  };

  RedoLog(std::string path, const Settings& settings);
  Result<void> map();
  Result<void> write_header(std::uint64_t start);
  Result<void> create();
  Result<void> empty(std::uint64_t next_seq);
  void note_segments(std::uint32_t segments);
  char* segment_start(std::uint32_t index) const;
  Result<void> next_segment(AppendKind kind);
  bool take_free_locked(AppendKind kind);

  const std::string path_;
  const Settings settings_;
  SyncOps& sync_;
  std::uint32_t segment_size_;
  std::uint64_t log_id_ = 0;
  Fd file_;
  char* mapping_ = nullptr;
  std::size_t mapping_size_ = 0;

  // Under the owner's write lock.
  char* at_ = nullptr;   // where the next record goes; null: no segment yet
  char* end_ = nullptr;  // of the segment being written
  char* half_ = nullptr;
  bool attention_ = false;
  bool on_reserve_ = false;  // the segment being written was the last free one
  std::atomic<std::uint64_t> last_seq_{0};
  std::atomic<bool> wants_segment_{false};

  /// One add_segment() at a time; taken before segments_mutex_.
  std::mutex grow_mutex_;
  mutable std::mutex segments_mutex_;
  Segment active_;            // last_seq is not kept
  std::deque<Segment> used_;  // full ones, in order
  std::deque<std::uint32_t> free_;
  std::uint32_t total_ = 0;  // whole segments in the file
  bool reserve_refilled_ = false;
};

}  // namespace layerfs::upper
