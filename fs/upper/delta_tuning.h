// SPDX-License-Identifier: Apache-2.0
// What tests change of an open delta: its sizes and times, and the calls that flush. Everybody else takes the
// defaults.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>

#include "fs/base/result.h"
#include "fs/upper/redo_scan.h"

namespace layerfs::upper {

/// The flushing system calls. Any thread.
class SyncOps {
 public:
  virtual ~SyncOps() = default;
  virtual Result<void> sync_data(int fd);         ///< fdatasync(2)
  virtual Result<void> sync_all(int fd);          ///< fsync(2), for directories
  virtual Result<void> sync_file_system(int fd);  ///< syncfs(2)
};

struct DeltaTuning {
  SyncOps* sync = nullptr;  ///< not owned; null: the real ones
  std::uint32_t segment_size = 1U << 20;
  std::uint32_t max_segments = kMaxSegments;
  /// Segments in use from which a checkpoint is made in the background.
  std::uint32_t checkpoint_segments = 16;
  /// A checkpoint that is longer than twice what it was when it was written whole, and this, is written whole
  /// again.
  std::uint64_t checkpoint_slack = std::uint64_t{16} << 20;
  /// False: instead of being written whole it is compacted in place, as on a full disk.
  bool writes_whole = true;
  /// The longest that a change waits for its flush to begin.
  std::chrono::milliseconds flush_period{4000};
  /// The pause before a failed flush or checkpoint is tried again.
  std::chrono::milliseconds retry_period{1000};
  /// What /proc/sys/kernel/random/boot_id is taken to say; empty: what it says.
  std::function<BootId()> boot_id;
  /// Called by each flush once it knows what it flushes, with no lock held: what is changed then is not part of it.
  std::function<void()> after_take;
};

}  // namespace layerfs::upper
