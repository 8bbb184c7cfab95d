// SPDX-License-Identifier: Apache-2.0
// Unsaved: what a flush has yet to do for changes that were applied: files to flush, data files to remove. It
// is guarded by DeltaCore's write lock.
//
// (1) A file is listed once: its node in the state carries a mark as long as it is
//     (DeltaState::mark_to_flush).
// (2) What take() gives is no longer listed here. Whoever took it has it done, or gives it to restore().
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "fs/tree/upper_layer.h"
#include "fs/upper/data_name.h"
#include "fs/upper/delta_state.h"
#include "fs/upper/dirty_ranges.h"

namespace layerfs::upper {

class Unsaved {
 public:
  /// Some bytes of a data file, by the name that it had when the batch was taken: its inode may be erased since, or
  /// have another file.
  struct Range {
    DataName name;
    std::uint64_t offset;
    std::uint64_t length;
  };
  struct Batch {
    std::vector<DataName> files;  ///< whose data is to be flushed before the next mark
    /// All that is to be flushed of them, where that is little; nullopt: it is much, or not known.
    std::optional<std::vector<Range>> ranges;
    std::vector<DataName> erased;  ///< whose data is to be removed after the mark
    std::uint64_t erased_bytes = 0;
  };

  /// Adds what a change means for data files. `range`: ChangeSet::written. True: it is the first change since
  /// take().
  bool add(const DataEffects& effects, const std::optional<tree::WrittenRange>& range);
  /// A change that concerns no data file. True: as for add().
  bool add_change();
  /// Bytes of data files that are to be removed.
  std::uint64_t erased_bytes() const { return erased_bytes_; }

  /// Requires: the state lock, exclusively.
  Batch take(DeltaState& state);
  /// Requires: the state lock, exclusively.
  void restore(const Batch& batch, DeltaState& state);
  /// The removal of these is to be tried again.
  void restore_erased(const Batch& batch);

 private:
  std::vector<tree::Ino> files_;
  DirtyRanges ranges_;
  std::vector<DataName> erased_;
  std::uint64_t erased_bytes_ = 0;
  bool has_changes_ = false;
};

}  // namespace layerfs::upper
