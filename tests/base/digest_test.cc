// SPDX-License-Identifier: Apache-2.0
#include "fs/base/digest.h"

#include <gtest/gtest.h>

#include <unordered_set>

#include "fs/base/sha256.h"

namespace layerfs {
namespace {

const std::string kHex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

TEST(Digest, ParsesAndPrintsItself) {
  auto digest = parse_digest("sha256:" + kHex);
  ASSERT_TRUE(digest);
  EXPECT_EQ(digest->hex(), kHex);
  EXPECT_EQ(digest->str(), "sha256:" + kHex);
  EXPECT_EQ(digest->bytes[0], 0xe3);
  EXPECT_EQ(digest->bytes[31], 0x55);
  EXPECT_EQ(*parse_hex_digest(kHex), *digest);
}

TEST(Digest, RefusesWhatIsNotOne) {
  for (const std::string& text :
       {std::string(), kHex, std::string("sha256:"), "sha256:" + kHex.substr(1), "sha256:" + kHex + "0",
        "sha256:E" + kHex.substr(1), "sha256:g" + kHex.substr(1), "SHA256:" + kHex,
        "sha256:" + kHex.substr(1) + "/", "sha256:" + std::string(64, '\0'), " sha256:" + kHex,
        "../../" + kHex}) {
    auto digest = parse_digest(text);
    ASSERT_FALSE(digest) << text;
    EXPECT_EQ(digest.error().kind, ErrorKind::kInvalid) << text;
  }
}

TEST(Digest, SaysThatAnotherAlgorithmIsUnsupported) {
  auto digest = parse_digest("sha512:" + kHex + kHex);
  ASSERT_FALSE(digest);
  EXPECT_EQ(digest.error().kind, ErrorKind::kUnsupported);
}

TEST(Digest, IsZeroOnlyAsDefault) {
  EXPECT_TRUE(Digest{}.is_zero());
  Digest digest;
  digest.bytes[31] = 1;
  EXPECT_FALSE(digest.is_zero());
}

TEST(Digest, OrdersAsItsHexDoes) {
  Digest low = *parse_hex_digest(std::string(62, '0') + "7f");
  Digest high = *parse_hex_digest(std::string(62, '0') + "80");
  EXPECT_LT(low, high);
  EXPECT_LT(low.hex(), high.hex());
}

TEST(Digest, HashesToDifferentBuckets) {
  std::unordered_set<std::size_t> hashes;
  for (int i = 0; i < 1000; ++i) hashes.insert(std::hash<Digest>()(sha256(std::to_string(i))));
  EXPECT_EQ(hashes.size(), 1000U);
}

}  // namespace
}  // namespace layerfs
