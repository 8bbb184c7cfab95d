// SPDX-License-Identifier: Apache-2.0
#include "fs/image/chunk_ring.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>

#include "fs/base/bytes.h"

namespace layerfs::image {
namespace {

std::string collect(ChunkRing& ring, std::size_t consumer, bool& cancelled) {
  std::string all;
  for (;;) {
    auto chunk = ring.next(consumer);
    if (!chunk) {
      cancelled = chunk.error().code == ECANCELED;
      return all;
    }
    if (chunk->empty()) return all;
    all += as_text(*chunk);
  }
}

std::string pattern(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 7 + i / 251);
  return text;
}

TEST(ChunkRing, EveryConsumerSeesEveryByteInOrder) {
  ChunkRing ring(3, 2, 64);
  const std::string sent = pattern(10'000);
  std::string got[3];
  bool cancelled[3] = {};
  std::vector<std::jthread> consumers;
  for (std::size_t i = 0; i < 3; ++i)
    consumers.emplace_back([&, i] { got[i] = collect(ring, i, cancelled[i]); });
  for (std::size_t at = 0; at < sent.size(); at += 37)
    ASSERT_TRUE(ring.write(as_bytes(std::string_view(sent).substr(at, 37))));
  ring.close();
  consumers.clear();
  for (const auto& text : got) EXPECT_TRUE(text == sent);
}

TEST(ChunkRing, AcquireAndCommitHandOutWhatWasFilled) {
  ChunkRing ring(1, 2, 64);
  auto buffer = ring.acquire();
  ASSERT_TRUE(buffer);
  EXPECT_EQ(buffer->size(), 64U);
  std::memcpy(buffer->data(), "abc", 3);
  ring.commit(3);
  ring.commit(0);  // nothing: not an end
  ring.close();
  EXPECT_EQ(as_text(*ring.next(0)), "abc");
  EXPECT_TRUE(ring.next(0)->empty());
}

TEST(ChunkRing, AbortFreesAProducerThatWaits) {
  ChunkRing ring(1, 1, 8);
  Result<void> written;
  std::jthread producer([&] { written = ring.write(as_bytes(pattern(1000))); });
  while (!ring.next(0)) std::this_thread::yield();
  ring.abort();
  producer.join();
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, ECANCELED);
}

TEST(ChunkRing, AbortFreesAConsumerThatWaits) {
  ChunkRing ring(1, 2, 8);
  bool cancelled = false;
  std::jthread consumer([&] { collect(ring, 0, cancelled); });
  ring.abort();
  consumer.join();
  EXPECT_TRUE(cancelled);
  EXPECT_TRUE(ring.aborted());
}

TEST(ChunkRing, ASlowConsumerHoldsTheProducerBack) {
  ChunkRing ring(2, 2, 4);
  bool cancelled = false;
  std::string fast;
  std::jthread consumer([&] { fast = collect(ring, 0, cancelled); });
  std::jthread producer([&] {
    EXPECT_TRUE(ring.write(as_bytes(pattern(40))));
    ring.close();
  });
  std::string slow;
  for (;;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    auto chunk = ring.next(1);
    ASSERT_TRUE(chunk);
    if (chunk->empty()) break;
    slow += as_text(*chunk);
  }
  producer.join();
  consumer.join();
  EXPECT_TRUE(slow == pattern(40));
  EXPECT_TRUE(fast == pattern(40));
}

}  // namespace
}  // namespace layerfs::image
