// SPDX-License-Identifier: Apache-2.0
#include "fs/union/inode_table.h"

#include <algorithm>

namespace layerfs::unionfs {

void LookupCounts::add(tree::Ino ino) {
  std::uint64_t page = page_of(ino);
  Shard& of = shard(page);
  std::lock_guard hold(of.mutex);
  auto& found = of.pages[page];
  if (!found) found = std::make_unique<Page>();
  std::uint16_t& count = found->counts[to_number(ino) % kPageSize];
  if (count == kMost) {
    ++of.overflow[to_number(ino)];
  } else if (count++ == 0) {
    ++found->held;
  }
}

std::uint64_t LookupCounts::remove(tree::Ino ino, std::uint64_t count) {
  std::uint64_t page = page_of(ino);
  Shard& of = shard(page);
  std::lock_guard hold(of.mutex);
  auto found = of.pages.find(page);
  if (found == of.pages.end()) return 0;
  std::uint16_t& low = found->second->counts[to_number(ino) % kPageSize];
  if (low == 0) return 0;
  std::uint64_t total = low;
  auto high = of.overflow.find(to_number(ino));
  if (high != of.overflow.end()) total += high->second;
  std::uint64_t left = total - std::min(total, count);
  low = static_cast<std::uint16_t>(std::min<std::uint64_t>(left, kMost));
  if (high != of.overflow.end()) {
    if (left > kMost)
      high->second = left - kMost;
    else
      of.overflow.erase(high);
  }
  if (left == 0 && --found->second->held == 0) of.pages.erase(found);
  return left;
}

std::uint64_t LookupCounts::count(tree::Ino ino) const {
  std::uint64_t page = page_of(ino);
  const Shard& of = shard(page);
  std::lock_guard hold(of.mutex);
  auto found = of.pages.find(page);
  if (found == of.pages.end()) return 0;
  auto high = of.overflow.find(to_number(ino));
  return found->second->counts[to_number(ino) % kPageSize] + (high == of.overflow.end() ? 0 : high->second);
}

std::size_t LookupCounts::memory() const {
  std::size_t bytes = 0;
  for (const Shard& of : shards_) {
    std::lock_guard hold(of.mutex);
    bytes += of.pages.size() * (sizeof(Page) + 64) + of.overflow.size() * 64;
  }
  return bytes;
}

}  // namespace layerfs::unionfs
