// SPDX-License-Identifier: Apache-2.0
// InodeLocks: one reader-writer lock for each inode, many inodes to a lock. LOCKS.md has the rules.
//
// (1) Several are taken in ascending order of index, or tried without waiting: no cycle can form.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <shared_mutex>
#include <span>

#include "fs/base/check.h"
#include "fs/tree/node.h"

namespace layerfs::unionfs {

class InodeLocks {
 public:
  static constexpr std::size_t kStripes = 1024;
  static std::size_t index_of(tree::Ino ino) {
    // Fibonacci hashing: the top bits of the product depend on every bit of the number.
    return static_cast<std::size_t>((to_number(ino) * 0x9E3779B97F4A7C15ULL) >> 54);
  }
  std::shared_mutex& of(tree::Ino ino) { return stripes_[index_of(ino)].mutex; }
  std::shared_mutex& at(std::size_t index) { return stripes_[index].mutex; }

 private:
  struct alignas(64) Stripe {
    std::shared_mutex mutex;
  };
  std::array<Stripe, kStripes> stripes_;
};

/// Exclusive locks on up to kMost inodes, released at the end of the scope.
class ExclusiveLocks {
 public:
  static constexpr std::size_t kMost = 6;

  explicit ExclusiveLocks(InodeLocks& locks) : locks_(locks) {}
  ExclusiveLocks(InodeLocks& locks, tree::Ino ino) : locks_(locks) { lock({&ino, 1}); }
  ExclusiveLocks(const ExclusiveLocks&) = delete;
  ExclusiveLocks& operator=(const ExclusiveLocks&) = delete;
  ~ExclusiveLocks() { release(); }

  /// Waits for all of them. Requires: none is held.
  void lock(std::span<const tree::Ino> inos) {
    LAYERFS_CHECK(count_ == 0 && inos.size() <= kMost);
    std::array<std::size_t, kMost> wanted{};
    std::size_t size = 0;
    for (tree::Ino ino : inos) wanted[size++] = InodeLocks::index_of(ino);
    std::sort(wanted.begin(), wanted.begin() + size);
    for (std::size_t i = 0; i < size; ++i) {
      if (i > 0 && wanted[i] == wanted[i - 1]) continue;
      locks_.at(wanted[i]).lock();
      held_[count_++] = wanted[i];
    }
  }

  /// Locks one more without waiting; true where it is held then.
  bool try_add(tree::Ino ino) {
    std::size_t index = InodeLocks::index_of(ino);
    if (std::find(held_.begin(), held_.begin() + count_, index) != held_.begin() + count_) return true;
    LAYERFS_CHECK(count_ < kMost);
    if (!locks_.at(index).try_lock()) return false;
    held_[count_++] = index;
    return true;
  }

  void release() {
    while (count_ > 0) locks_.at(held_[--count_]).unlock();
  }

 private:
  InodeLocks& locks_;
  std::array<std::size_t, kMost> held_{};
  std::size_t count_ = 0;
};

}  // namespace layerfs::unionfs
