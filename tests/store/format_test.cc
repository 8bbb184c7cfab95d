// SPDX-License-Identifier: Apache-2.0
// The codecs of FORMAT.md: what is written is read, anything else is refused without harm.
#include "fs/store/format.h"

#include <limits>

#include "fs/store/layer_frames.h"
#include "fs/store/tree_format.h"
#include "fs/store/xxh64.h"
#include "tests/store/support.h"

namespace layerfs::store {
namespace {

TEST(Xxh64Test, GivesThePublishedValues) {
  EXPECT_EQ(xxh64(""), 0xEF46DB3751D8E999ULL);
  EXPECT_EQ(xxh64("a"), 0xD24EC4F1A98C6E5BULL);
  EXPECT_EQ(xxh64("abc"), 0x44BC2CF5AD770999ULL);
  EXPECT_EQ(xxh64("Call me Ishmael. Some years ago--never mind how long precisely-"), 0x02A2E85470D6FD96ULL);
}

/// One sum over those of texts of every length up to 500, as stores have them on disk.
TEST(Xxh64Test, GivesTheSameValuesForEver) {
  std::string text;
  std::string sums;
  for (unsigned i = 0; i <= 500; ++i) {
    append_le(sums, xxh64(text));
    text += static_cast<char>(i * i * 7 + i / 3);
  }
  EXPECT_EQ(xxh64(sums), 0x1392C4AE3BE59808ULL);
}

TEST(Xxh64Test, PiecesGiveWhatTheWholeGives) {
  std::string text = random_bytes(1000, 1);
  for (std::size_t size :
       {std::size_t{0}, std::size_t{31}, std::size_t{32}, std::size_t{33}, std::size_t{1000}}) {
    for (std::size_t step : {std::size_t{1}, std::size_t{7}, std::size_t{32}, std::size_t{100}}) {
      Xxh64 hash;
      for (std::size_t at = 0; at < size; at += step)
        hash.update(std::string_view(text).substr(at, std::min(step, size - at)));
      EXPECT_EQ(hash.value(), xxh64(std::string_view(text).substr(0, size)));
    }
  }
}

TEST(FormatTest, VarintsOfEveryLength) {
  for (unsigned shift = 0; shift < 64; ++shift) {
    for (std::uint64_t value :
         {std::uint64_t{1} << shift, (std::uint64_t{1} << shift) - 1, ~std::uint64_t{0} >> shift}) {
      std::string bytes;
      append_varint(bytes, value);
      ByteReader from(bytes);
      EXPECT_EQ(take_varint(from), value);
      EXPECT_TRUE(from.done());
    }
  }
}

TEST(FormatTest, VarintsThatAreNoneFail) {
  for (std::string_view bytes : {std::string_view(""), std::string_view("\x80"),
                                 std::string_view("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),
                                 std::string_view("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01")}) {
    ByteReader from(bytes);
    take_varint(from);
    EXPECT_FALSE(from.ok());
  }
}

tree::Node random_node(std::uint64_t seed) {
  std::string dice = random_bytes(64, seed);
  tree::Node node;
  auto die = [&](std::size_t i) { return static_cast<unsigned char>(dice[i]); };
  node.kind = static_cast<tree::NodeKind>(1 + die(0) % 7);
  node.content = static_cast<tree::ContentKind>(die(1) % 4);
  node.mode = static_cast<std::uint16_t>(load_le<std::uint16_t>(&dice[2]) & 07777);
  node.nlink = 1U + die(4);
  node.size = load_le<std::uint64_t>(&dice[8]) >> die(5) % 64;
  node.mtime = node.ctime =
      node.atime = {static_cast<std::int64_t>(load_le<std::uint64_t>(&dice[16])), die(6) * 3'000'000U};
  if (die(7) % 2 == 0) node.uid = tree::Uid{load_le<std::uint32_t>(&dice[24])};
  if (die(7) % 3 == 0) node.gid = tree::Gid{load_le<std::uint32_t>(&dice[28])};
  if (die(7) % 5 == 0) node.rdev = load_le<std::uint64_t>(&dice[32]);
  if (die(7) % 7 == 0) node.ctime = {1, 2};
  if (die(7) % 11 == 0) node.atime = {std::numeric_limits<std::int64_t>::min(), 0};
  if (die(40) % 2 == 0) node.object = sha256(dice);
  if (die(40) % 3 == 0) node.parent = tree::Ino{load_le<std::uint32_t>(&dice[44])};
  if (die(40) % 5 == 0) node.base_size = load_le<std::uint64_t>(&dice[48]);
  return node;
}

TEST(FormatTest, NodesComeBack) {
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    tree::Node node = random_node(seed);
    std::string bytes;
    append_node(bytes, node);
    ByteReader from(bytes);
    tree::Node again;
    ASSERT_TRUE(take_node(from, again)) << seed;
    EXPECT_TRUE(from.done());
    EXPECT_EQ(again, node) << seed;
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      ByteReader cut(std::string_view(bytes).substr(0, size));
      EXPECT_FALSE(take_node(cut, again));
    }
  }
}

TEST(FormatTest, APlainFileTakesLittle) {
  tree::Node node;
  node.content = tree::ContentKind::kObject;
  node.object = sha256("x");
  node.mode = 0644;
  node.size = 10'000;
  node.mtime = node.ctime = node.atime = {1'700'000'000, 0};
  std::string bytes;
  append_node(bytes, node);
  EXPECT_LE(bytes.size(), 48U);
}

ImageRecord some_image() {
  ImageRecord image;
  image.reference = "localhost/x:latest";
  image.manifest = sha256("m");
  image.config = sha256("c");
  image.chain = sha256("ch");
  image.imported_at = -5;
  image.layers = {{sha256("l1"), sha256("b1"), 17, "application/x"},
                  {sha256("l2"), sha256("b2"), std::uint64_t{1} << 40, ""}};
  return image;
}

ContainerRecord some_container() {
  ContainerRecord container;
  container.id = std::string(64, 'a');
  container.name = "name";
  container.image_reference = "localhost/x:latest";
  container.image_manifest = sha256("m");
  container.image_config = sha256("c");
  container.chain = sha256("ch");
  container.layers = {sha256("l1"), sha256("l2")};
  container.created_at = 1'700'000'000;
  container.is_mount = true;
  return container;
}

TEST(FormatTest, CatalogRecordsComeBackAndNothingElseDoes) {
  std::string image = encode_image(some_image());
  std::string container = encode_container(some_container());
  std::string location = encode_location({1, 2, 3});
  EXPECT_EQ(decode_image(image), some_image());
  EXPECT_EQ(decode_container(container), some_container());
  EXPECT_EQ(decode_location(location), (ObjectLocation{1, 2, 3}));
  for (std::size_t size = 0; size < image.size(); ++size) EXPECT_FALSE(decode_image(image.substr(0, size)));
  for (std::size_t size = 0; size < container.size(); ++size)
    EXPECT_FALSE(decode_container(container.substr(0, size)));
  for (std::size_t size = 0; size < location.size(); ++size)
    EXPECT_FALSE(decode_location(location.substr(0, size)));
  EXPECT_FALSE(decode_image(image + "x"));
  EXPECT_FALSE(decode_container(container + "x"));
  EXPECT_FALSE(decode_location(location + "x"));
  image[0] = 2;
  EXPECT_FALSE(decode_image(image));
  EXPECT_FALSE(decode_location(encode_location({1, std::numeric_limits<std::uint64_t>::max(), 1})));
  EXPECT_FALSE(decode_location(encode_location({1, std::numeric_limits<std::int64_t>::max(), 1})));
}

TEST(FormatTest, ACountThatIsALieFailsAtOnce) {
  // Version, empty reference, three digests, time, then 2^60 layers.
  std::string bytes(1, '\1');
  append_varint(bytes, 0);
  bytes.append(96, 'd');
  append_varint(bytes, 0);
  append_varint(bytes, std::uint64_t{1} << 60);
  EXPECT_FALSE(decode_image(bytes));
}

TEST(FormatTest, RandomBytesHarmNoDecoder) {
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    std::string bytes = random_bytes(seed % 150, seed);
    // Begin plausibly, or nothing gets past the first byte.
    if (!bytes.empty()) bytes[0] = static_cast<char>(seed % 5);
    decode_image(bytes);
    decode_container(bytes);
    decode_location(bytes);
    tree_format::decode_head(bytes);
    std::uint32_t version = 0;
    tree_format::decode_trailer(bytes, version);
    tree::Node node;
    tree::LayerRecord record;
    Frame frame;
    ByteReader a(bytes);
    ByteReader b(bytes);
    ByteReader c(bytes);
    take_node(a, node);
    take_record(b, record);
    take_frame(c, frame);
  }
}

TEST(FormatTest, TreeTrailersAreChecked) {
  tree_format::Trailer trailer{4096, 7, sha256("chain")};
  std::string bytes = encode_trailer(trailer);
  ASSERT_EQ(bytes.size(), tree_format::kTrailerSize);
  std::uint32_t version = 0;
  auto again = tree_format::decode_trailer(bytes, version);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->lmdb_size, trailer.lmdb_size);
  EXPECT_EQ(again->checksum, trailer.checksum);
  EXPECT_EQ(again->chain, trailer.chain);
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    std::string wrong = bytes;
    wrong[at] = static_cast<char>(wrong[at] ^ 1);
    EXPECT_FALSE(tree_format::decode_trailer(wrong, version)) << at;
  }
}

TEST(FormatTest, PathsAreNormalisedOrNot) {
  for (std::string_view good : {"", "a", "a/b", "...", ".a", "a..", "\xff"})
    EXPECT_TRUE(is_normalised_path(good)) << good;
  for (std::string_view bad : {"/", "/a", "a/", "a//b", ".", "..", "a/.", "a/..", "./a"})
    EXPECT_FALSE(is_normalised_path(bad)) << bad;
  EXPECT_TRUE(is_normalised_path(std::string(255, 'x')));
  EXPECT_FALSE(is_normalised_path(std::string(256, 'x')));
}

}  // namespace
}  // namespace layerfs::store
