// SPDX-License-Identifier: Apache-2.0
// STORE/running/ID: what a monitor has made, for those who clean up after one that was killed (RUN.md,
// "Files").
//
// (1) Locked (flock(2)) by the client from before the container's record is made, then by the monitor, which
//     inherits the descriptor; nobody else keeps a copy.
// (2) Made under another name and locked before it is renamed: an unlocked one is stale.
// (3) Whoever cleans up after a stale one holds its lock meanwhile.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "fs/base/fd.h"
#include "fs/base/result.h"

namespace layerfs::run {

struct RunningState {
  std::string id;
  std::string name;
  pid_t pid = 0;
  std::uint64_t start_time = 0;
  pid_t monitor = 0;
  std::vector<std::string> cgroups;
  bool remove = false;  ///< with its end; also while it is being made, whatever was asked for
  std::int64_t started = 0;
};

class RunningFile {
 public:
  /// Makes and locks the file. Errors: EEXIST where the container runs.
  static Result<RunningFile> create(const std::string& store_root, const RunningState& state);
  /// In the monitor: the file by its descriptor.
  static RunningFile adopt(const std::string& store_root, const std::string& id, Fd fd);
  Result<void> update(const RunningState& state);
  int fd() const { return fd_.get(); }
  /// Removes it: everything is cleaned.
  Result<void> remove();

 private:
  RunningFile(std::string store_root, std::string id, Fd fd)
      : store_root_(std::move(store_root)), id_(std::move(id)), fd_(std::move(fd)) {}
  std::string store_root_;
  std::string id_;
  Fd fd_;
};

/// Whether the container has a live monitor, and what that wrote. nullopt where there is no file. Errors:
/// kCorrupt where the file is none of this version, or another user's.
struct FoundRunning {
  RunningState state;
  bool alive = false;
};
Result<std::optional<FoundRunning>> find_running(const std::string& store_root, const std::string& id);
/// Cleans up after monitors that died: processes, cgroups, containers of --rm, the files. What is busy is
/// left for the next time. Never fails: a problem is logged.
void sweep_stale(const std::string& store_root);
/// The same for one container, once its server has let go of the upper.
Result<void> clean_up(const std::string& store_root, const RunningState& state);

}  // namespace layerfs::run
