// SPDX-License-Identifier: Apache-2.0
#include "fs/base/sha256.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

namespace layerfs {
namespace {

// The examples of FIPS 180-4 (NIST, "SHA256.pdf").
TEST(Sha256, GivesTheStandardsExamples) {
  EXPECT_EQ(sha256("").hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc").hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq").hex(),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256(std::string(1'000'000, 'a')).hex(),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, DoesNotDependOnHowTheBytesCome) {
  std::string text(10'000, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7);
  for (std::size_t step :
       {std::size_t{1}, std::size_t{63}, std::size_t{64}, std::size_t{65}, std::size_t{4096}}) {
    Sha256 hasher;
    for (std::size_t at = 0; at < text.size(); at += step)
      hasher.update(std::string_view(text).substr(at, step));
    EXPECT_EQ(hasher.finish(), sha256(text)) << step;
  }
}

TEST(Sha256, IsReadyForTheNextMessageAfterFinish) {
  Sha256 hasher;
  hasher.update("abc");
  Digest first = hasher.finish();
  EXPECT_EQ(hasher.finish(), sha256(""));
  hasher.update("abc");
  EXPECT_EQ(hasher.finish(), first);
}

TEST(Sha256, MovesWithItsState) {
  Sha256 hasher;
  hasher.update("ab");
  Sha256 other = std::move(hasher);
  other.update("c");
  EXPECT_EQ(other.finish(), sha256("abc"));
}

TEST(Sha256, HashesInManyThreadsAtOnce) {
  Digest expected = sha256(std::string(100'000, 'x'));
  std::vector<Digest> digests(8);
  {
    std::vector<std::jthread> threads;
    for (auto& digest : digests)
      threads.emplace_back([&digest] { digest = sha256(std::string(100'000, 'x')); });
  }
  for (const auto& digest : digests) EXPECT_EQ(digest, expected);
}

}  // namespace
}  // namespace layerfs
