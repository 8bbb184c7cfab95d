// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/dirty_ranges.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <utility>

namespace layerfs::upper {
namespace {

using tree::Ino;
using tree::WrittenRange;

TEST(DirtyRanges, CoverWhatWasAddedAndNoMore) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    std::mt19937_64 random(seed);
    DirtyRanges dirty;
    std::set<std::pair<std::uint64_t, std::uint64_t>> bytes;
    for (int i = 0; i < 40; ++i) {
      const std::uint64_t ino = random() % 3;
      const std::uint64_t offset = random() % 1000;
      const std::uint64_t length = random() % 60;
      dirty.add({Ino{ino}, offset, length});
      for (std::uint64_t at = offset; at < offset + length; ++at) bytes.emplace(ino, at);
    }
    const auto taken = dirty.take();
    ASSERT_TRUE(taken) << "seed " << seed;
    std::set<std::pair<std::uint64_t, std::uint64_t>> covered;
    for (const WrittenRange& one : *taken) {
      const auto ino = to_number(one.ino);
      EXPECT_GT(one.length, 0U);
      EXPECT_FALSE(one.offset > 0 && bytes.contains({ino, one.offset - 1})) << "touches another";
      for (std::uint64_t at = one.offset; at < one.offset + one.length; ++at)
        EXPECT_TRUE(covered.emplace(ino, at).second) << "twice";
    }
    EXPECT_EQ(covered, bytes) << "seed " << seed;
    EXPECT_TRUE(dirty.take()->empty());
  }
}

TEST(DirtyRanges, TooMuchIsNotTold) {
  DirtyRanges dirty;
  dirty.add({Ino{1}, 0, DirtyRanges::kMaxBytes});
  dirty.add({Ino{1}, 0, DirtyRanges::kMaxBytes});
  EXPECT_EQ(dirty.take()->size(), 1U) << "the same bytes again are no more";
  dirty.add({Ino{1}, 0, DirtyRanges::kMaxBytes});
  dirty.add({Ino{2}, 0, 1});
  EXPECT_FALSE(dirty.take());
  for (std::uint64_t i = 0; i < DirtyRanges::kMaxRanges; ++i) dirty.add({Ino{1}, 2 * i, 1});
  EXPECT_EQ(dirty.take()->size(), DirtyRanges::kMaxRanges);
  for (std::uint64_t i = 0; i <= DirtyRanges::kMaxRanges; ++i) dirty.add({Ino{1}, 2 * i, 1});
  EXPECT_FALSE(dirty.take());
}

TEST(DirtyRanges, WhatIsNotKnownStaysSoUntilItIsTaken) {
  DirtyRanges dirty;
  dirty.add({Ino{1}, 0, 1});
  dirty.add_unknown();
  dirty.add({Ino{1}, 0, 1});
  EXPECT_FALSE(dirty.take());
  dirty.add({Ino{1}, 0, 0});
  EXPECT_TRUE(dirty.take()->empty());
}

}  // namespace
}  // namespace layerfs::upper
