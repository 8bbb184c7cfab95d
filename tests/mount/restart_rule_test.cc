// SPDX-License-Identifier: Apache-2.0
#include "fs/mount/restart_rule.h"

#include <gtest/gtest.h>

namespace layerfs::mount {
namespace {

using std::chrono::milliseconds;

class RestartRuleTest : public testing::Test {
 protected:
  /// A server that is ready at once and lives for so long.
  bool restarts_after(milliseconds life) {
    rule_.ready(now_);
    now_ += life;
    return rule_.may_restart(now_);
  }
  RestartRule rule_;
  RestartRule::Clock::time_point now_{std::chrono::hours(1)};
};

TEST_F(RestartRuleTest, FiveDeathsAtOnceInARowAreEnough) {
  for (int i = 1; i < RestartRule::kMostAtOnce; ++i) {
    EXPECT_TRUE(restarts_after(milliseconds(99)));
    EXPECT_EQ(rule_.pause(), milliseconds(50) * i);
  }
  EXPECT_FALSE(restarts_after(milliseconds(99)));
  EXPECT_EQ(rule_.why(), "died 5 times at once");
}

TEST_F(RestartRuleTest, OneThatLivedBeginsTheRowAnew) {
  for (int turn = 0; turn < 3; ++turn) {
    for (int i = 1; i < RestartRule::kMostAtOnce; ++i) EXPECT_TRUE(restarts_after(milliseconds(0)));
    EXPECT_TRUE(restarts_after(milliseconds(100)));
    EXPECT_EQ(rule_.pause(), milliseconds(0));
  }
}

TEST_F(RestartRuleTest, OneThatWasNeverReadyDiedAtOnce) {
  for (int i = 1; i < RestartRule::kMostAtOnce; ++i) {
    now_ += std::chrono::minutes(5);
    EXPECT_TRUE(rule_.may_restart(now_));
  }
  EXPECT_FALSE(rule_.may_restart(now_));
}

TEST_F(RestartRuleTest, AHundredDeathsWithinAMinuteAreEnough) {
  for (std::size_t i = 1; i < RestartRule::kMostInAMinute; ++i)
    ASSERT_TRUE(restarts_after(milliseconds(150))) << i;
  EXPECT_FALSE(restarts_after(milliseconds(150)));
  EXPECT_EQ(rule_.why(), "died 100 times within a minute");
}

TEST_F(RestartRuleTest, AHundredDeathsInMoreThanAMinuteAreNot) {
  for (std::size_t i = 0; i < 5 * RestartRule::kMostInAMinute; ++i)
    ASSERT_TRUE(restarts_after(milliseconds(610))) << i;
}

}  // namespace
}  // namespace layerfs::mount
