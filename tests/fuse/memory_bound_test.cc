// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/memory_bound.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace layerfs::fuse {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;

TEST(MemoryBound, WhatIsAProcesssOwnIsInMemoryOrSwappedOut) {
  EXPECT_EQ(parse_own_memory("Name:\tx\nVmRSS:\t 900 kB\nRssAnon:\t     100 kB\nVmSwap:\t      20 kB\n"),
            120U << 10);
  EXPECT_EQ(parse_own_memory("Name:\tx\nRssAnon:\t7 kB\n"), 7U << 10);
  EXPECT_EQ(parse_own_memory("Name:\tRssAnon:\n"), std::nullopt);
  EXPECT_GT(own_memory().value_or(0), 0U);
}

TEST(MemoryBound, NoneIsNoneAndNotMeasured) {
  MemoryBound bound(0, []() -> std::optional<std::uint64_t> {
    ADD_FAILURE() << "measured";
    return 0;
  });
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(bound.has_room(kMiB));
}

TEST(MemoryBound, IsLookedAtOnceAMebibyteAndHoldsUntilThereIsRoomAgain) {
  std::atomic<std::uint64_t> own = 0;
  std::atomic<unsigned> looks = 0;
  MemoryBound bound(10 * kMiB, [&]() -> std::optional<std::uint64_t> {
    ++looks;
    return own.load();
  });
  // 64 changes of 16 KiB and an entry are more than a mebibyte once.
  for (int i = 0; i < 64; ++i) EXPECT_TRUE(bound.has_room(16 << 10));
  EXPECT_EQ(looks, 1U);
  own = 11 * kMiB;
  unsigned made = 0;
  while (made < 1000 && bound.has_room(16 << 10)) ++made;
  EXPECT_LT(made, 64U);
  for (int i = 0; i < 1000; ++i) EXPECT_FALSE(bound.has_room(0));
  own = 9 * kMiB;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!bound.has_room(0)) {
    ASSERT_LT(std::chrono::steady_clock::now(), end) << "full for ever";
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_TRUE(bound.has_room(0));
}

TEST(MemoryBound, ThereIsNoneWhereNothingIsMeasured) {
  MemoryBound bound(1, []() -> std::optional<std::uint64_t> { return std::nullopt; });
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(bound.has_room(kMiB));
}

}  // namespace
}  // namespace layerfs::fuse
