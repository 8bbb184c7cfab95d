// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/unsaved.h"

#include <span>
#include <utility>

namespace layerfs::upper {

bool Unsaved::add(const DataEffects& effects, const std::optional<tree::WrittenRange>& range) {
  files_.insert(files_.end(), effects.to_flush.begin(), effects.to_flush.end());
  if (range)
    ranges_.add(*range);
  else if (effects.names_data)
    ranges_.add_unknown();
  erased_.insert(erased_.end(), effects.erased.begin(), effects.erased.end());
  erased_bytes_ += effects.erased_bytes;
  return add_change();
}

bool Unsaved::add_change() { return !std::exchange(has_changes_, true); }

Unsaved::Batch Unsaved::take(DeltaState& state) {
  Batch batch;
  const auto files = std::exchange(files_, {});
  for (const tree::Ino ino : files) state.clear_to_flush(ino);
  batch.files = state.data_names(files);
  if (const auto ranges = ranges_.take()) {
    batch.ranges.emplace();
    for (const tree::WrittenRange& range : *ranges)
      for (const DataName& name : state.data_names(std::span(&range.ino, 1)))  // none: erased
        batch.ranges->push_back({name, range.offset, range.length});
  }
  batch.erased = std::exchange(erased_, {});
  batch.erased_bytes = std::exchange(erased_bytes_, 0);
  has_changes_ = false;
  return batch;
}

void Unsaved::restore(const Batch& batch, DeltaState& state) {
  has_changes_ = true;
  restore_erased(batch);
  erased_bytes_ += batch.erased_bytes;
  ranges_.add_unknown();
  for (const DataName& name : batch.files)
    if (state.mark_to_flush(name.ino)) files_.push_back(name.ino);
}

void Unsaved::restore_erased(const Batch& batch) {
  erased_.insert(erased_.end(), batch.erased.begin(), batch.erased.end());
}

}  // namespace layerfs::upper
