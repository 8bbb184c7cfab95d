// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/crc32c.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <random>
#include <string>

#include "tests/base/time_bound.h"

namespace layerfs::upper {
namespace {

/// Bit by bit, as RFC 3720 has it.
std::uint32_t crc32c_by_definition(std::string_view data) {
  std::uint32_t crc = 0xFFFFFFFFU;
  for (const char c : data) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78U : 0);
  }
  return ~crc;
}

TEST(Crc32c, GivesTheValuesOfRfc3720) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283U);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAU);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62A8AB43U);
  EXPECT_EQ(crc32c(""), 0U);
  EXPECT_EQ(crc32c("", 0xE3069283U), 0xE3069283U);
}

TEST(Crc32c, IsWhatIsDefinedAtEveryLengthAndAlignment) {
  std::mt19937 random(1);
  std::string bytes(1000, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  for (std::size_t from = 0; from < 9; ++from)
    for (std::size_t length = 0; length + from <= bytes.size(); length += length < 200 ? 1 : 97) {
      const auto part = std::string_view(bytes).substr(from, length);
      ASSERT_EQ(crc32c(part), crc32c_by_definition(part)) << from << ' ' << length;
    }
}

TEST(Crc32c, GoesOnFromAnEarlierPart) {
  const std::string bytes = "the whole of it, in two parts";
  for (std::size_t cut = 0; cut <= bytes.size(); ++cut)
    EXPECT_EQ(crc32c(bytes.substr(cut), crc32c(bytes.substr(0, cut))), crc32c(bytes));
}

/// The zeros of an anonymous mapping that is never written to are one page.
TEST(Crc32c, TakesMoreThanAnIntCounts) {
  if (kSanitized) GTEST_SKIP() << "3 GiB of reads are slow here";
  constexpr std::size_t kSize = (std::size_t{3} << 30) + 5;
  void* zeros = ::mmap(nullptr, kSize, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(zeros, MAP_FAILED);
  const std::string_view all(static_cast<const char*>(zeros), kSize);
  std::uint32_t in_parts = 0;
  constexpr std::size_t kPart = 100'000'007;
  for (std::size_t at = 0; at < kSize; at += kPart) in_parts = crc32c(all.substr(at, kPart), in_parts);
  EXPECT_EQ(crc32c(all), in_parts);
  ::munmap(zeros, kSize);
}

}  // namespace
}  // namespace layerfs::upper
