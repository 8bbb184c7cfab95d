// SPDX-License-Identifier: Apache-2.0
#include "tools/cmd_progress.h"

#include <gtest/gtest.h>

namespace layerfs::tools {
namespace {

constexpr std::uint64_t kTotal = 3'000'000'000;

TEST(Progress, FitsEveryWidth) {
  for (std::size_t width = 0; width < 120; ++width) {
    for (std::uint64_t total : {std::uint64_t{0}, kTotal}) {
      std::string text = progress_text(1'200'000'000, total, ", layer 2 of 5", width);
      EXPECT_LE(text.size(), width) << text;
      EXPECT_EQ(text.find('\n'), std::string::npos);
    }
  }
}

TEST(Progress, TheBarGoesBeforeTheNumbers) {
  EXPECT_EQ(progress_text(1'200'000'000, kTotal, ", layer 2 of 5", 79),
            "[============                  ]  40%  1.2 GB of 3 GB, layer 2 of 5");
  EXPECT_EQ(progress_text(1'200'000'000, kTotal, "", 30), "[==     ]  40%  1.2 GB of 3 GB");
  EXPECT_EQ(progress_text(1'200'000'000, kTotal, "", 22), " 40%  1.2 GB of 3 GB");
  EXPECT_EQ(progress_text(1'200'000'000, 0, "", 22), "1.2 GB");
}

TEST(Progress, MoreThanAllIsAll) {
  EXPECT_EQ(progress_text(6'000'000'000, kTotal, "", 40).substr(0, 14), "[=============");
}

}  // namespace
}  // namespace layerfs::tools
