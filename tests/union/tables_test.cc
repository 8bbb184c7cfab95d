// SPDX-License-Identifier: Apache-2.0
// The small parts: lookup counts, the descriptor cache, inode locks, the gate.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include "fs/base/sha256.h"
#include "fs/tree/memory_blobs.h"
#include "fs/union/descriptor_cache.h"
#include "fs/union/freeze_gate.h"
#include "fs/union/inode_locks.h"
#include "fs/union/inode_table.h"
#include "fs/upper/memory_upper.h"

namespace layerfs::unionfs {
namespace {

using tree::Ino;

TEST(LookupCounts, CountUpAndDownAndNeverBelowNothing) {
  LookupCounts counts;
  EXPECT_EQ(counts.count(Ino{5}), 0U);
  counts.add(Ino{5});
  counts.add(Ino{5});
  counts.add(Ino{6});
  EXPECT_EQ(counts.count(Ino{5}), 2U);
  EXPECT_EQ(counts.remove(Ino{5}, 1), 1U);
  EXPECT_EQ(counts.remove(Ino{5}, 9), 0U);
  EXPECT_EQ(counts.remove(Ino{5}, 1), 0U);
  EXPECT_EQ(counts.count(Ino{6}), 1U);
}

TEST(LookupCounts, CountBeyondTwoBytes) {
  LookupCounts counts;
  for (int i = 0; i < 200'000; ++i) counts.add(Ino{7});
  EXPECT_EQ(counts.count(Ino{7}), 200'000U);
  EXPECT_EQ(counts.remove(Ino{7}, 100'000), 100'000U);
  EXPECT_EQ(counts.remove(Ino{7}, 60'000), 40'000U);
  counts.add(Ino{7});
  EXPECT_EQ(counts.remove(Ino{7}, 40'001), 0U);
}

TEST(LookupCounts, AMillionInodesTakeLessThanThreeMegabytesAndNoneAfterwards) {
  LookupCounts counts;
  for (std::uint64_t i = 1; i <= 1'000'000; ++i) counts.add(Ino{i});
  EXPECT_LT(counts.memory(), 3'000'000U);
  for (std::uint64_t i = 1; i <= 1'000'000; ++i) counts.remove(Ino{i}, 1);
  EXPECT_EQ(counts.memory(), 0U);
}

TEST(DescriptorCache, HoldsNoMoreThanItsCapacity) {
  auto upper = upper::make_memory_upper();
  DescriptorCache cache(nullptr, upper.get(), 64);
  for (std::uint64_t i = 1; i <= 1000; ++i) ASSERT_TRUE(cache.create_data(Ino{i}));
  EXPECT_LE(cache.size(), 64U);
  EXPECT_GT(cache.size(), 32U);
  cache.drop_all();
  EXPECT_EQ(cache.size(), 0U);
}

TEST(DescriptorCache, OpensWhatItHoldsOnceAndForgetsWhatIsDropped) {
  tree::MemoryBlobs blobs;
  auto upper = upper::make_memory_upper();
  Digest digest = blobs.put("content").value();
  DescriptorCache cache(&blobs, upper.get(), 64);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(cache.open_object(digest)->size, 7U);
  EXPECT_EQ(blobs.opens(), 1U);
  EXPECT_EQ(cache.open_object(sha256("other")).error().code, ENOENT);
  ASSERT_TRUE(cache.create_data(Ino{1}));
  ASSERT_TRUE(upper->apply({{tree::EraseNode{Ino{1}}}, 0}));
  EXPECT_TRUE(cache.open_data(Ino{1}));
  cache.drop_data(Ino{1});
  EXPECT_EQ(cache.open_data(Ino{1}).error().code, ENOENT);
}

TEST(DescriptorCache, StaysWithinAQuarterOfTheLimit) {
  struct rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_LE(DescriptorCache::default_capacity(), std::max<std::size_t>(16, limit.rlim_cur / 4));
  EXPECT_GE(DescriptorCache::default_capacity(), 16U);
}

TEST(ExclusiveLocks, AreTakenInAnyOrderByManyThreads) {
  InodeLocks locks;
  std::uint64_t shared[3] = {};
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 2000; ++i) {
        ExclusiveLocks held(locks);
        std::array<Ino, 2> order = t % 2 ? std::array{Ino{1}, Ino{2}} : std::array{Ino{2}, Ino{1}};
        held.lock(order);
        ++shared[0];
        ++shared[1];
        if (held.try_add(Ino{3})) ++shared[2];
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(shared[0], 8000U);
  EXPECT_GT(shared[2], 0U);
}

TEST(ExclusiveLocks, OfTwoInodesOnOneLockTakeItOnce) {
  InodeLocks locks;
  std::uint64_t other = 2;
  while (InodeLocks::index_of(Ino{other}) != InodeLocks::index_of(Ino{1})) ++other;
  ExclusiveLocks held(locks);
  std::array<Ino, 2> both{Ino{1}, Ino{other}};
  held.lock(both);
  EXPECT_TRUE(held.try_add(Ino{other}));
  held.release();
  EXPECT_TRUE(locks.of(Ino{1}).try_lock());
  locks.of(Ino{1}).unlock();
}

TEST(FreezeGate, ClosesOnceEveryoneHasLeftAndLetsNobodyIn) {
  FreezeGate gate;
  std::atomic<int> inside{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t)
    threads.emplace_back([&] {
      while (!stop) {
        FreezeGate::Pass pass(gate);
        ++inside;
        --inside;
      }
    });
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(gate.close());
    EXPECT_EQ(inside, 0);
    EXPECT_FALSE(gate.try_enter());
    EXPECT_FALSE(gate.close());
    gate.open();
  }
  stop = true;
  for (auto& thread : threads) thread.join();
}

}  // namespace
}  // namespace layerfs::unionfs
