// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/crc32c.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace layerfs::upper {
namespace {

TEST(Crc32c, GivesTheValuesOfRfc3720) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283U);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAU);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62A8AB43U);
  EXPECT_EQ(crc32c(""), 0U);
}

TEST(Crc32c, InstructionAndTablesAgreeAtEveryLength) {
  std::mt19937 random(1);
  std::string bytes;
  for (int length = 0; length < 200; ++length) {
    EXPECT_EQ(crc32c(bytes), crc32c_portable(bytes)) << length;
    bytes.push_back(static_cast<char>(random()));
  }
}

TEST(Crc32c, GoesOnFromAnEarlierPart) {
  const std::string bytes = "the whole of it, in two parts";
  for (std::size_t cut = 0; cut <= bytes.size(); ++cut)
    EXPECT_EQ(crc32c(bytes.substr(cut), crc32c(bytes.substr(0, cut))), crc32c(bytes));
}

}  // namespace
}  // namespace layerfs::upper
