// SPDX-License-Identifier: Apache-2.0
#include "fs/base/bytes.h"

#include <gtest/gtest.h>

#include <string>

namespace layerfs {
namespace {

using namespace std::string_view_literals;

TEST(Bytes, LittleEndianIsLowByteFirst) {
  std::string text;
  append_le<std::uint16_t>(text, 0x1234);
  append_le<std::uint32_t>(text, 0xdeadbeef);
  append_le<std::uint64_t>(text, 1);
  EXPECT_EQ(text, "\x34\x12\xef\xbe\xad\xde\x01\0\0\0\0\0\0\0"sv);
  EXPECT_EQ(load_le<std::uint16_t>(text.data()), 0x1234);
  EXPECT_EQ(load_le<std::uint32_t>(text.data() + 2), 0xdeadbeef);
}

TEST(Bytes, BigEndianSortsAsNumbersDo) {
  std::string previous;
  for (std::uint64_t value : {0ULL, 1ULL, 255ULL, 256ULL, 1ULL << 32, ~0ULL}) {
    std::string text;
    append_be(text, value);
    EXPECT_EQ(load_be<std::uint64_t>(text.data()), value);
    if (value != 0) {
      EXPECT_LT(previous, text);
    }
    previous = text;
  }
}

TEST(Bytes, NegativeNumbersComeBack) {
  std::string text;
  append_le<std::int64_t>(text, -2);
  append_be<std::int32_t>(text, -3);
  EXPECT_EQ(load_le<std::int64_t>(text.data()), -2);
  EXPECT_EQ(load_be<std::int32_t>(text.data() + 8), -3);
}

TEST(ByteReader, ReadsFieldsInOrder) {
  ByteReader reader("\x01\x02\x00nameREST"sv);
  EXPECT_EQ(reader.le<std::uint8_t>(), 1);
  EXPECT_EQ(reader.le<std::uint16_t>(), 2);
  EXPECT_EQ(reader.take(4), "name");
  EXPECT_EQ(reader.rest(), "REST");
  EXPECT_TRUE(reader.ok());
  EXPECT_FALSE(reader.done());
  EXPECT_EQ(reader.take(4), "REST");
  EXPECT_TRUE(reader.done());
}

TEST(ByteReader, FailsForGoodAfterAReadPastTheEnd) {
  ByteReader reader("\x01\x02\x03"sv);
  EXPECT_EQ(reader.le<std::uint32_t>(), 0U);
  EXPECT_FALSE(reader.ok());
  EXPECT_EQ(reader.le<std::uint8_t>(), 0) << "what was left must not be read as the next field";
  EXPECT_EQ(reader.take(1), "");
  EXPECT_EQ(reader.take(0), "");
  EXPECT_FALSE(reader.ok());
  EXPECT_FALSE(reader.done());
}

TEST(ByteReader, TakesNoMoreThanThereIs) {
  ByteReader reader("abc"sv);
  EXPECT_EQ(reader.take(~std::size_t{0}), "");
  EXPECT_FALSE(reader.ok());
  ByteReader empty(""sv);
  EXPECT_TRUE(empty.done());
  EXPECT_EQ(empty.le<std::uint8_t>(), 0);
  EXPECT_FALSE(empty.done());
}

}  // namespace
}  // namespace layerfs
