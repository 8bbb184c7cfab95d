// SPDX-License-Identifier: Apache-2.0
// Sparse maps of a tar: old GNU's pairs in the header, pax formats 0.0 and 0.1 in records, 1.0 at the front
// of the data (GNU tar manual, "Storing Sparse Files"). Pure; one thread.
//
// (1) A map that passed finish_sparse_map() is sorted, without overlap or empty extents, inside the file's
//     size, and its lengths sum up to the bytes that the archive stores.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/result.h"

namespace layerfs::image {

struct SparseExtent {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  bool operator==(const SparseExtent&) const = default;
};
using SparseMap = std::vector<SparseExtent>;

/// More than any real file has; bounds the memory that a map can ask for (16 MiB).
inline constexpr std::size_t kMaxSparseExtents = std::size_t{1} << 20;

/// Old GNU: `pairs` pairs of 12-digit fields from `at`; stops at a blank pair. Errors: kInvalid, reason only.
Result<void> add_gnu_pairs(std::string_view at, std::size_t pairs, SparseMap& map);
/// Pax 0.0: offset and size one after another.
Result<SparseMap> parse_sparse_pairs(const std::vector<std::string>& numbers);
/// Pax 0.1: "offset,size,offset,size".
Result<SparseMap> parse_sparse_list(std::string_view list);

/// Pax 1.0: decimal lines (the count, then offset and size of each) in the first blocks of the data.
class SparseMapParser {
 public:
  /// Takes one block; true when the map is complete (the rest of the block is padding).
  Result<bool> add_block(std::string_view block);
  SparseMap take() { return std::move(map_); }

 private:
  Result<void> add_number(std::uint64_t number);
  bool complete() const { return counted_ && map_.size() == expected_ && !has_offset_; }

  std::string digits_;  ///< of a line that goes on in the next block
  bool counted_ = false;
  std::uint64_t expected_ = 0;
  bool has_offset_ = false;
  std::uint64_t offset_ = 0;
  SparseMap map_;
};

/// Makes invariant (1) true. Errors: kInvalid, the reason only.
Result<void> finish_sparse_map(SparseMap& map, std::uint64_t file_size, std::uint64_t stored_size);

}  // namespace layerfs::image
