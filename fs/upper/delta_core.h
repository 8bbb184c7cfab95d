// SPDX-License-Identifier: Apache-2.0
// DeltaCore: what the parts of an open delta share. delta_open.cc fills it, DeltaUpper changes and reads it,
// DeltaPersister brings it to disk. LOCKS.md has the order of its locks.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>

#include "fs/base/fd.h"
#include "fs/upper/checkpoint_file.h"
#include "fs/upper/delta_data.h"
#include "fs/upper/delta_state.h"
#include "fs/upper/delta_tuning.h"
#include "fs/upper/delta_upper.h"
#include "fs/upper/recent_requests.h"
#include "fs/upper/redo_log.h"
#include "fs/upper/unflushed_files.h"
#include "fs/upper/unsaved.h"

namespace layerfs::upper {

struct DeltaCore {
  // Set before the delta is used, and not changed afterwards.
  std::string directory;
  DeltaOptions options;
  DeltaTuning tuning;
  SyncOps default_sync;
  SyncOps* sync = &default_sync;
  Fd lock;
  Fd dir;

  // The files of the delta. Each says which threads may call it.
  std::unique_ptr<DeltaData> data;
  std::unique_ptr<CheckpointFile> checkpoint;  ///< used by whoever has the flush's turn
  std::unique_ptr<RedoLog> log;                ///< null: read-only
  std::uint64_t covered = 0;                   ///< by the checkpoint; for whoever has the flush's turn
  UnflushedFiles unflushed;  ///< to be flushed themselves before the log gives up what it has of them

  /// Makes the order of the log the order of the state.
  std::mutex write_mutex;
  Unsaved unsaved;
  std::uint64_t last_change = 0;  ///< the number of the last record of changes or inode numbers
  RecentRequests requests;

  mutable std::shared_mutex state_mutex;
  DeltaState state;

  std::atomic<std::uint64_t> next_ino{tree::kFirstUpperIno};
  /// The log says of the numbers below that they may have been given out.
  std::atomic<std::uint64_t> reserved_ino{tree::kFirstUpperIno};
};

}  // namespace layerfs::upper
