// SPDX-License-Identifier: Apache-2.0
// What a ring is made of, without a kernel that has any. tests/fuse/session_test.cc serves by them.
#include "fs/fuse/ring.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace layerfs::fuse {
namespace {

TEST(Ring, CountsTheProcessorsOfAKernelsList) {
  EXPECT_EQ(count_processors("0\n").value(), 1U);
  EXPECT_EQ(count_processors("0-1\n").value(), 2U);
  EXPECT_EQ(count_processors("0-3,8,12-15").value(), 9U);
  for (const char* bad : {"", "\n", "x", "0-", "3-1", "0;1", "0,,1", "-1"})
    EXPECT_FALSE(count_processors(bad)) << bad;
}

TEST(Ring, EveryQueueHasSeveralRingsAndFewThreadsServeAll) {
  for (const unsigned queues : {1U, 2U, 8U, 9U, 64U, 300U}) {
    const auto shares = share_queues(queues);
    EXPECT_LE(shares.size(), 24U);
    for (unsigned queue = 0; queue < queues; ++queue) {
      const auto rings = std::ranges::count_if(
          shares, [&](const auto& share) { return std::ranges::count(share, queue) == 1; });
      EXPECT_EQ(rings, 3) << queue << " of " << queues;
    }
    for (const auto& share : shares) {
      EXPECT_FALSE(share.empty());
      EXPECT_TRUE(share.size() == 1 || queues > 8);  // a thread of one queue stays on its processor
    }
  }
}

}  // namespace
}  // namespace layerfs::fuse
