// SPDX-License-Identifier: Apache-2.0
#include "tools/cmd_words.h"

#include <gtest/gtest.h>

namespace layerfs::tools {
namespace {

const std::vector<std::string> kCommands{"import", "images", "inspect", "mount", "umount", "run", "rm", "ps"};

TEST(Words, TheNearestIsWhatWasMeant) {
  EXPECT_EQ(find_nearest("imprt", kCommands), "import");
  EXPECT_EQ(find_nearest("imoprt", kCommands), "import");
  EXPECT_EQ(find_nearest("image", kCommands), "images");
  EXPECT_EQ(find_nearest("mounts", kCommands), "mount");
  EXPECT_EQ(find_nearest("rn", kCommands), "run");
}

TEST(Words, WhatIsFarIsNothing) {
  for (const std::string& word : {std::string("frobnicate"), std::string(), std::string(100'000, 'x')})
    EXPECT_EQ(find_nearest(word, kCommands), std::nullopt);
  EXPECT_EQ(find_nearest("import", {}), std::nullopt);
}

}  // namespace
}  // namespace layerfs::tools
