// SPDX-License-Identifier: Apache-2.0
// DeltaEntries: the entries and tombstones that a delta has of one directory, ordered by (cookie, name).
// One thread at a time changes it; DeltaUpper's state lock sees to that.
//
// (1) Slots lie in chunks of at most kMaxChunk, so that a change moves few bytes and a search touches few
//     cache lines, with 3 entries or 10^6; a chunk grows with what is in it.
// (2) Slots of one cookie (names of equal hash) are never split over two chunks.
// (3) No chunk is empty; firsts_[i] is the cookie of chunks_[i]'s first slot.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "fs/base/function_ref.h"
#include "fs/tree/upper_layer.h"

namespace layerfs::upper {

class DeltaEntries {
 public:
  /// kAbsent where there is neither entry nor tombstone.
  tree::UpperEntry find(std::string_view name) const;
  /// Sets the entry or tombstone of `name`.
  void put(std::string_view name, const tree::UpperEntry& entry);
  void erase(std::string_view name);
  /// Those with a cookie greater than `after`, in order. False stops.
  void list(tree::DirCookie after, FunctionRef<bool(const tree::UpperEntryView&)> visit) const;
  bool empty() const { return chunks_.empty(); }

 private:
  static constexpr std::size_t kMaxChunk = 96;

  struct Slot {
    std::uint64_t cookie;
    std::uint64_t ino;
    std::unique_ptr<char[]> name;
    std::uint8_t name_size;
    tree::EntryState state;
    tree::NodeKind kind;
    std::string_view name_view() const { return {name.get(), name_size}; }
  };
  using Chunk = std::vector<Slot>;
  struct Position {
    std::size_t chunk;
    std::size_t slot;
    bool found;
  };

  Position find_position(std::uint64_t cookie, std::string_view name) const;
  void split(std::size_t chunk);

  std::vector<std::uint64_t> firsts_;
  std::vector<Chunk> chunks_;
};

}  // namespace layerfs::upper
