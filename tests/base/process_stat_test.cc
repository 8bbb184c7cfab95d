// SPDX-License-Identifier: Apache-2.0
#include "fs/base/process_stat.h"

#include <gtest/gtest.h>

#include <string>

#include "fs/base/sys_file.h"

namespace layerfs {
namespace {

TEST(ProcessStat, FieldsAreCountedFromTheEndOfTheName) {
  std::string line = "17 (a) R 3 (b) S";
  for (int field = 4; field <= 40; ++field) line += ' ' + std::to_string(field);
  line += '\n';
  EXPECT_EQ(find_stat_field(line, StatField::kState), "S");
  EXPECT_EQ(find_stat_field(line, StatField::kStartTime), "22");
  EXPECT_EQ(find_stat_field(line, StatField::kProcessor), "39");
}

TEST(ProcessStat, ALineThatEndsBeforeHasNoSuchField) {
  for (const char* line : {"", "17", "17 (a)", "17 (a) R", "17 (a) R\n"}) {
    EXPECT_EQ(find_stat_field(line, StatField::kStartTime), "") << line;
    EXPECT_EQ(find_stat_field(line, StatField::kProcessor), "") << line;
  }
  EXPECT_EQ(find_stat_field("17 (a) R\n", StatField::kState), "R");
}

TEST(ProcessStat, ReadsThisProcess) {
  auto line = read_file("/proc/self/stat");
  ASSERT_TRUE(line);
  EXPECT_EQ(find_stat_field(*line, StatField::kState), "R");
}

}  // namespace
}  // namespace layerfs
