// SPDX-License-Identifier: Apache-2.0
// DeltaCore: what the parts of an open delta share. DeltaUpper changes and reads it, DeltaPersister brings it
// to disk, delta_open.cc fills it.
//
// Lock order: a flush's turn (DeltaPersister) -> write_mutex -> state_mutex; write_mutex -> the log's, the
// data files' and the persister's own mutexes, which are leaves.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <vector>

#include "fs/base/fd.h"
#include "fs/upper/checkpoint_file.h"
#include "fs/upper/delta_data.h"
#include "fs/upper/delta_state.h"
#include "fs/upper/delta_tuning.h"
#include "fs/upper/delta_upper.h"
#include "fs/upper/dirty_ranges.h"
#include "fs/upper/redo_log.h"
#include "fs/upper/unflushed_files.h"

namespace layerfs::upper {

/// The numbers of the latest requests, for was_applied(). One thread at a time.
class RecentRequests {
 public:
  /// A resent request was in flight when the server died; no more than this can have been.
  static constexpr std::size_t kKept = 65536;
  void add(std::uint64_t request);
  bool contains(std::uint64_t request) const;
  /// The latest `count` of them, oldest first.
  std::vector<std::uint64_t> latest(std::size_t count) const;

 private:
  std::vector<std::uint64_t> ring_;
  std::size_t next_ = 0;
};

/// Whether somebody appends to the log while it is read.
enum class LogTail : std::uint8_t { kStays, kMoves };

struct DeltaCore {
  std::string directory;
  DeltaOptions options;
  DeltaTuning tuning;
  SyncOps default_sync;
  SyncOps* sync = &default_sync;
  Fd lock;
  Fd dir;
  std::unique_ptr<DeltaData> data;
  std::unique_ptr<CheckpointFile> checkpoint;
  std::unique_ptr<RedoLog> log;  // null: read-only
  LogTail tail = LogTail::kStays;
  /// What the checkpoint covers; the persister's.
  std::uint64_t covered = 0;
  /// To be flushed themselves before the log gives up what it has of them.
  UnflushedFiles unflushed;

  /// Makes the order of the log the order of the state.
  std::mutex write_mutex;
  std::vector<tree::Ino> written;  // files whose data is to be flushed before the next mark
  DirtyRanges dirty;               // all that is to be flushed of them, where that is little
  std::vector<DataName> erased;    // what is to be removed after it
  std::uint64_t erased_bytes = 0;
  bool changed_since_flush = false;
  std::uint64_t last_change = 0;  // the last record that is not a mark
  RecentRequests requests;

  /// Something was removed since a checkpoint that found no room, for all that is known.
  std::atomic<bool> has_freed{true};

  mutable std::shared_mutex state_mutex;
  DeltaState state;

  std::atomic<std::uint64_t> next_ino{tree::kFirstUpperIno};
  std::atomic<std::uint64_t> reserved_ino{
      tree::kFirstUpperIno};  // numbers below it are spoken for in the log
};

}  // namespace layerfs::upper
