// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/delta_extents.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace layerfs::upper {
namespace {

using tree::Extent;

TEST(DeltaExtents, TouchingRangesBecomeOne) {
  DeltaExtents extents;
  extents.add(10, 10);
  extents.add(30, 10);
  extents.add(20, 10);
  EXPECT_EQ(extents.list(), (std::vector<Extent>{{10, 30}}));
  extents.add(0, 5);
  EXPECT_EQ(extents.list(), (std::vector<Extent>{{0, 5}, {10, 30}}));
  extents.add(12, 3);
  EXPECT_EQ(extents.list(), (std::vector<Extent>{{0, 5}, {10, 30}}));
  extents.add(5, 0);
  EXPECT_EQ(extents.list().size(), 2U);
}

TEST(DeltaExtents, TrimCutsTheRangeAtTheSize) {
  DeltaExtents extents;
  extents.add(0, 10);
  extents.add(20, 10);
  extents.trim(25);
  EXPECT_EQ(extents.list(), (std::vector<Extent>{{0, 10}, {20, 5}}));
  extents.trim(20);
  EXPECT_EQ(extents.list(), (std::vector<Extent>{{0, 10}}));
  extents.trim(0);
  EXPECT_TRUE(extents.empty());
}

TEST(DeltaExtents, WithinGivesThoseThatOverlap) {
  DeltaExtents extents;
  extents.add(0, 10);
  extents.add(20, 10);
  extents.add(40, 10);
  EXPECT_EQ(extents.list_within(9, 20), (std::vector<Extent>{{0, 10}}));
  EXPECT_EQ(extents.list_within(10, 20), (std::vector<Extent>{}));
  EXPECT_EQ(extents.list_within(10, 21), (std::vector<Extent>{{20, 10}}));
  EXPECT_EQ(extents.list_within(25, 45), (std::vector<Extent>{{20, 10}, {40, 10}}));
  EXPECT_EQ(extents.list_within(50, 100), (std::vector<Extent>{}));
}

TEST(DeltaExtents, AgreesWithBytesThroughRandomChanges) {
  std::mt19937 random(5);
  constexpr std::size_t kSize = 400;
  DeltaExtents extents;
  std::vector<bool> bytes(kSize, false);
  for (int step = 0; step < 20'000; ++step) {
    if (random() % 10 == 0) {
      const std::size_t size = random() % kSize;
      extents.trim(size);
      for (std::size_t i = size; i < kSize; ++i) bytes[i] = false;
    } else {
      const std::size_t offset = random() % kSize;
      const std::size_t length = random() % std::min<std::size_t>(kSize - offset, 20);
      extents.add(offset, length);
      for (std::size_t i = offset; i < offset + length; ++i) bytes[i] = true;
    }
    std::vector<Extent> expected;
    for (std::size_t i = 0; i < kSize; ++i) {
      if (!bytes[i]) continue;
      const std::size_t begin = i;
      while (i < kSize && bytes[i]) ++i;
      expected.push_back({begin, i - begin});
    }
    ASSERT_EQ(extents.list(), expected) << "step " << step;
  }
}

}  // namespace
}  // namespace layerfs::upper
