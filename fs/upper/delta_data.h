// SPDX-License-Identifier: Apache-2.0
// DeltaData: the data files of a delta, data/xx/<ino>. Any thread.
//
// (1) While somebody holds a descriptor of a file, open_data gives the same one.
// (2) A removed file stays readable through the descriptors that are held.
#pragma once

#include <sys/types.h>

#include <bitset>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "fs/base/fd.h"
#include "fs/base/function_ref.h"
#include "fs/base/result.h"
#include "fs/tree/node.h"
#include "fs/upper/delta_tuning.h"

namespace layerfs::upper {

enum class DataAccess : std::uint8_t { kReadOnly, kReadWrite };

class DeltaData {
 public:
  /// `directory` holds data/, which is made where it is not there (not for kReadOnly).
  static Result<std::unique_ptr<DeltaData>> open(const std::string& directory, DataAccess access,
                                                 SyncOps& sync);

  /// Errors: ENOSPC, EDQUOT, EMFILE, EIO.
  Result<std::shared_ptr<const Fd>> create(tree::Ino ino);
  /// Errors: ENOENT, EMFILE, EIO.
  Result<std::shared_ptr<const Fd>> open(tree::Ino ino) const;
  /// The files of erased inodes, to be removed once that is durable; for open() and create() they are gone.
  void doom(std::span<const tree::Ino> inos);
  /// Removes those that are still doomed; nothing there is success.
  Result<void> remove_doomed(std::span<const tree::Ino> inos);
  /// Calls `is_wanted` for the inode of each file and removes those that are not, and what has no inode's
  /// name.
  Result<void> remove_unless(FunctionRef<bool(tree::Ino ino)> is_wanted);

  /// Flushes these files and the directories of those that are new: one by one, or, where they are many, by a
  /// flush of the file system. A file that is not there is not missed.
  Result<void> flush(std::span<const tree::Ino> inos);
  /// Flushes all that there is.
  Result<void> flush_all();

 private:
  DeltaData(Fd dir, DataAccess access, SyncOps& sync);
  Result<std::shared_ptr<const Fd>> open_locked(tree::Ino ino, int flags) const;
  Result<void> remove_locked(tree::Ino ino);
  Result<void> flush_new_directories();

  const Fd dir_;
  const DataAccess access_;
  SyncOps& sync_;
  /// Guards what follows; held over open(2) of a file, so that two openers of one inode share a descriptor.
  mutable std::mutex mutex_;
  mutable std::unordered_map<std::uint64_t, std::weak_ptr<const Fd>> held_;
  mutable std::size_t sweep_at_ = 256;  // the size of held_ at which the dead ones are dropped
  std::unordered_set<std::uint64_t> doomed_;
  std::bitset<256> new_in_;  // directories with files not yet flushed
  bool made_directories_ = false;
};

}  // namespace layerfs::upper
