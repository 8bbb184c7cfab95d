// SPDX-License-Identifier: Apache-2.0
// DirtyRanges: what was written to data files since somebody last asked, as long as that is little enough to
// go through the redo log (DELTA.md, "Data in the log"). One thread at a time.
//
// (1) What take() gives covers every range that was added since the take() before it, or it is nullopt.
// (2) Ranges of one file are disjoint and do not touch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "fs/tree/upper_layer.h"

namespace layerfs::upper {

class DirtyRanges {
 public:
  /// More than this is flushed where it is: one flush is saved, but every byte is written twice.
  static constexpr std::uint64_t kMaxBytes = std::uint64_t{128} << 10;
  static constexpr std::size_t kMaxRanges = 64;

  void add(const tree::WrittenRange& range);
  /// Something was written, nobody knows what.
  void add_unknown();
  /// Nullopt: too much, or not known. Begins anew.
  std::optional<std::vector<tree::WrittenRange>> take();

 private:
  bool known_ = true;
  std::vector<tree::WrittenRange> ranges_;
  std::uint64_t bytes_ = 0;
};

}  // namespace layerfs::upper
