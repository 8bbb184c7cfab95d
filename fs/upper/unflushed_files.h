// SPDX-License-Identifier: Apache-2.0
// UnflushedFiles: the data files whose last bytes may be on disk in the redo log only (DELTA.md, "Data in the
// log"). Any thread.
#pragma once

#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "fs/upper/data_name.h"

namespace layerfs::upper {

class UnflushedFiles {
 public:
  void add(std::span<const DataName> names) {
    const std::lock_guard lock(mutex_);
    for (const DataName& name : names) files_.emplace(file_of(name), name);
  }
  /// Others may be among them, of an earlier life of the delta.
  void add_unknown() {
    const std::lock_guard lock(mutex_);
    unknown_ = true;
  }
  bool is_unknown() const {
    const std::lock_guard lock(mutex_);
    return unknown_;
  }
  bool is_empty() const {
    const std::lock_guard lock(mutex_);
    return !unknown_ && files_.empty();
  }
  bool may_contain(const DataName& name) const {
    const std::lock_guard lock(mutex_);
    return unknown_ || files_.contains(file_of(name));
  }
  /// One name for each file that is known.
  std::vector<DataName> names() const {
    const std::lock_guard lock(mutex_);
    std::vector<DataName> names;
    names.reserve(files_.size());
    for (const auto& [file, name] : files_) names.push_back(name);
    return names;
  }
  void clear() {
    const std::lock_guard lock(mutex_);
    unknown_ = false;
    files_.clear();
  }

 private:
  mutable std::mutex mutex_;
  bool unknown_ = false;
  std::unordered_map<DataFile, DataName, DataFileHash> files_;
};

}  // namespace layerfs::upper
