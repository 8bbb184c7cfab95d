// SPDX-License-Identifier: Apache-2.0
// LookupCounts: how often the kernel holds each inode. Needed only to know when an unlinked node is gone, so
// it is kept small: two bytes an inode, in pages of neighbouring numbers. Any thread.
//
// (1) Inode numbers are dense, in a tree and in an upper: a page of 1024 numbers is made when one of them is
//     held first and freed when the last is given back.
// (2) A count too great for two bytes has the rest in a map of its own.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "fs/tree/node.h"

namespace layerfs::unionfs {

class LookupCounts {
 public:
  void add(tree::Ino ino);
  /// Takes `count` back (no more than there are) and returns what is left.
  std::uint64_t remove(tree::Ino ino, std::uint64_t count);
  std::uint64_t count(tree::Ino ino) const;
  /// Bytes that the counts take, roughly.
  std::size_t memory() const;

 private:
  static constexpr std::size_t kPageShift = 10;
  static constexpr std::size_t kPageSize = std::size_t{1} << kPageShift;
  static constexpr std::size_t kShards = 64;
  static constexpr std::uint16_t kMost = UINT16_MAX;

  struct Page {
    std::array<std::uint16_t, kPageSize> counts{};
    std::uint32_t held = 0;  // how many of them are not zero
  };
  struct alignas(64) Shard {
    mutable std::mutex mutex;  // guards the two maps
    std::unordered_map<std::uint64_t, std::unique_ptr<Page>> pages;
    std::unordered_map<std::uint64_t, std::uint64_t> overflow;  // ino -> what is beyond kMost
  };
  static std::uint64_t page_of(tree::Ino ino) { return to_number(ino) >> kPageShift; }
  Shard& shard(std::uint64_t page) { return shards_[page % kShards]; }
  const Shard& shard(std::uint64_t page) const { return shards_[page % kShards]; }

  std::array<Shard, kShards> shards_;
};

}  // namespace layerfs::unionfs
