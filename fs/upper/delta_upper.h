// SPDX-License-Identifier: Apache-2.0
// DeltaUpper: the durable UpperLayer of one container directory. In memory while open (its size grows with
// what changed), a redo log for the death of the process, a checkpoint for everything older. DELTA.md has the
// bytes, the order of writes and what each crash leaves.
#pragma once

#include <memory>
#include <string>

#include "fs/base/result.h"
#include "fs/tree/upper_layer.h"

namespace layerfs::upper {

struct DeltaOptions {
  bool read_only = false;    ///< for commit and inspection; takes no lock, replays the log in memory only
  bool is_volatile = false;  ///< sync() and sync_node() return at once; no periodic flush
};

/// Opens the delta in `directory` (checkpoint, redo.log, data/), creating it where it is not there.
/// Errors: EBUSY where another process has it open for writing; kCorrupt; ENOSPC; EACCES...
Result<std::unique_ptr<tree::UpperLayer>> open_delta(const std::string& directory, DeltaOptions options);

}  // namespace layerfs::upper
