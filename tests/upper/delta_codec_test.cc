// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/delta_codec.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/upper/delta_model.h"

namespace layerfs::upper {
namespace {

TEST(DeltaCodec, ChangesComeBackAsTheyWere) {
  test::ChangeMaker maker(7, 100);
  for (std::uint64_t k = 1; k < 500; ++k) {
    const tree::ChangeSet set = maker.next(k);
    std::string body;
    ASSERT_TRUE(append_changes(body, set));
    const auto decoded = decode_body(body);
    ASSERT_TRUE(decoded) << decoded.error().message();
    const auto& back = std::get<tree::ChangeSet>(*decoded);
    EXPECT_EQ(back.request, set.request);
    test::Model before;
    test::Model after;
    before.apply(set);
    after.apply(back);
    EXPECT_EQ(before.dump(), after.dump());
    std::string again;
    ASSERT_TRUE(append_changes(again, back));
    EXPECT_EQ(again, body);
  }
}

TEST(DeltaCodec, EveryTruncationIsRefused) {
  test::ChangeMaker maker(8, 100);
  std::string body;
  ASSERT_TRUE(append_changes(body, maker.next(1)));
  for (std::size_t length = 0; length < body.size(); ++length)
    EXPECT_FALSE(decode_body(std::string_view(body).substr(0, length))) << length;
  EXPECT_FALSE(decode_body(body + 'x'));
}

TEST(DeltaCodec, DataComesBackAndStaysWithinItsPlace) {
  const auto encoded = [](tree::ContentKind content, std::uint64_t offset, std::string_view bytes) {
    std::string body;
    append_data(body, {{tree::Ino{70}, content}, offset, bytes});
    EXPECT_EQ(body.size(), kLogDataOverhead + bytes.size());
    return body;
  };
  const std::string body = encoded(tree::ContentKind::kShared, tree::kSharedLimit - 5, "bytes");
  const auto decoded = decode_body(body);
  ASSERT_TRUE(decoded) << decoded.error().message();
  const auto& data = std::get<LogData>(*decoded);
  EXPECT_EQ(data.name, (DataName{tree::Ino{70}, tree::ContentKind::kShared}));
  EXPECT_EQ(data.offset, tree::kSharedLimit - 5);
  EXPECT_EQ(data.bytes, "bytes");
  EXPECT_TRUE(decode_body(encoded(tree::ContentKind::kData, tree::kSharedLimit, "bytes")));
  for (const std::string& bad :
       {encoded(tree::ContentKind::kShared, tree::kSharedLimit - 4, "bytes"),
        encoded(tree::ContentKind::kShared, UINT64_MAX, "bytes"),
        encoded(tree::ContentKind::kData, INT64_MAX, "bytes"), encoded(tree::ContentKind::kData, 0, ""),
        encoded(tree::ContentKind::kObject, 0, "bytes"), body.substr(0, 17)})
    EXPECT_FALSE(decode_body(bad));
  std::string flushed;
  append_flushed(flushed);
  EXPECT_TRUE(std::holds_alternative<LogFlushed>(*decode_body(flushed)));
  EXPECT_FALSE(decode_body(flushed + 'x'));
}

TEST(DeltaCodec, WhatCouldNotBeReadBackIsNotWritten) {
  std::string body;
  tree::Node node;
  node.mtime.nanoseconds = 1'000'000'000;
  EXPECT_EQ(append_changes(body, {{tree::PutNode{tree::Ino{2}, node}}}).error().code, EINVAL);
  node = {};
  node.mode = 0100644;
  EXPECT_EQ(append_changes(body, {{tree::PutNode{tree::Ino{2}, node}}}).error().code, EINVAL);
  EXPECT_EQ(append_changes(body, {{tree::PutTombstone{tree::Ino{1}, ""}}}).error().code, EINVAL);
  EXPECT_EQ(append_changes(body, {{tree::PutTombstone{tree::Ino{1}, std::string(256, 'n')}}}).error().code,
            EINVAL);
  EXPECT_EQ(append_changes(body, {{tree::AddExtent{tree::Ino{1}, 1, UINT64_MAX}}}).error().code, EINVAL);
}

TEST(DeltaCodec, ACountThatCannotBeReservesNothing) {
  std::string body(1, static_cast<char>(BodyType::kChanges));
  append_le(body, std::uint64_t{0});
  append_le(body, std::uint32_t{0xFFFFFFFF});
  const auto decoded = decode_body(body);
  ASSERT_FALSE(decoded);
  EXPECT_EQ(decoded.error().kind, ErrorKind::kCorrupt);
}

TEST(DeltaCodec, ExtentsThatTouchOrOverlapAreRefused) {
  std::vector<tree::Extent> back;
  std::string bytes;
  append_extents(bytes, {{0, 10}, {11, 5}});
  ASSERT_TRUE(read_extents(bytes, back));
  EXPECT_EQ(back, (std::vector<tree::Extent>{{0, 10}, {11, 5}}));
  for (const std::vector<tree::Extent>& bad :
       {std::vector<tree::Extent>{{0, 10}, {10, 5}}, {{5, 10}, {0, 1}}, {{0, 0}}, {{UINT64_MAX, 2}}}) {
    bytes.clear();
    append_extents(bytes, bad);
    EXPECT_FALSE(read_extents(bytes, back));
  }
  EXPECT_FALSE(read_extents("123", back));
}

}  // namespace
}  // namespace layerfs::upper
