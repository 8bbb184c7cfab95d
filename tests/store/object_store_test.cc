// SPDX-License-Identifier: Apache-2.0
// Objects: kept once, named only by finish(), small ones packed, large ones files with their holes.
#include <fcntl.h>
#include <sys/stat.h>

#include <thread>

#include "fs/store/pack_file.h"
#include "tests/store/support.h"

namespace layerfs::store {
namespace {

class ObjectStoreTest : public StoreTest {
 protected:
  Digest put_one(const std::string& text) {
    auto writer = value_of(store_->objects().make_writer());
    Digest digest = value_of(writer->put(as_bytes(text)));
    value_of(writer->finish());
    return digest;
  }
  std::string read(const Digest& digest) { return read_blob(value_of(store_->objects().open(digest))); }
  std::size_t count(const std::string& prefix) {
    std::size_t found = 0;
    for (const auto& file : files_of(root_)) found += file.starts_with(prefix) ? 1 : 0;
    return found;
  }
};

TEST_F(ObjectStoreTest, SmallAndLargeContentsComeBack) {
  std::string small = "hello";
  std::string large = random_bytes(300'000, 1);
  Digest a = put_one(small);
  Digest b = put_one(large);
  EXPECT_EQ(a, sha256(small));
  EXPECT_EQ(b, sha256(large));
  reopen();
  EXPECT_EQ(read(a), small);
  EXPECT_EQ(read(b), large);
  EXPECT_EQ(count("packs/"), 1U);
  EXPECT_EQ(count("objects/"), 1U);
}

TEST_F(ObjectStoreTest, TheLimitDecidesBetweenPackAndFile) {
  put_one(random_bytes(kPackLimit - 1, 2));
  EXPECT_EQ(count("objects/"), 0U);
  put_one(random_bytes(kPackLimit, 3));
  EXPECT_EQ(count("objects/"), 1U);
}

TEST_F(ObjectStoreTest, AnEmptyContentIsAnObjectToo) {
  Digest digest = put_one("");
  EXPECT_EQ(read(digest), "");
}

TEST_F(ObjectStoreTest, PiecesOfAnySizeMakeOneContent) {
  std::string whole = random_bytes(3'000'000, 4);
  for (std::uint64_t hint : {std::uint64_t{0}, std::uint64_t{3'000'000}}) {
    for (std::size_t step : {std::size_t{1000}, std::size_t{65'536}, std::size_t{1'500'000}}) {
      auto writer = value_of(store_->objects().make_writer());
      ASSERT_DONE(writer->begin(hint));
      for (std::size_t at = 0; at < whole.size(); at += step)
        ASSERT_DONE(writer->append(as_bytes(std::string_view(whole).substr(at, step))));
      EXPECT_EQ(value_of(writer->end()), sha256(whole));
      ASSERT_DONE(writer->finish());
      EXPECT_EQ(read(sha256(whole)), whole);
    }
  }
  EXPECT_EQ(count("objects/"), 1U);
}

TEST_F(ObjectStoreTest, NothingIsVisibleBeforeFinish) {
  Digest digest;
  {
    auto writer = value_of(store_->objects().make_writer());
    digest = value_of(writer->put(as_bytes(random_bytes(100, 5))));
    value_of(writer->put(as_bytes(random_bytes(100'000, 6))));
    EXPECT_FALSE(value_of(store_->objects().contains(digest)));
    EXPECT_EQ(store_->objects().open(digest).error().code, ENOENT);
  }
  EXPECT_TRUE(files_of(root_).empty());
  EXPECT_EQ(problems_of(*store_), "");
}

TEST_F(ObjectStoreTest, AWriterGoesOnAfterFinish) {
  auto writer = value_of(store_->objects().make_writer());
  Digest first = value_of(writer->put(as_bytes("first")));
  ASSERT_DONE(writer->finish());
  Digest second = value_of(writer->put(as_bytes("second")));
  Digest again = value_of(writer->put(as_bytes("first")));
  ASSERT_DONE(writer->finish());
  EXPECT_EQ(first, again);
  EXPECT_EQ(read(first), "first");
  EXPECT_EQ(read(second), "second");
}

TEST_F(ObjectStoreTest, TheSameContentIsWrittenOnce) {
  std::string small = random_bytes(10'000, 7);
  std::string large = random_bytes(100'000, 8);
  auto writer = value_of(store_->objects().make_writer());
  for (int i = 0; i < 3; ++i) {
    value_of(writer->put(as_bytes(small)));
    value_of(writer->put(as_bytes(large)));
  }
  ASSERT_DONE(writer->finish());
  put_one(small);
  put_one(large);
  EXPECT_EQ(count("packs/"), 1U);
  EXPECT_EQ(count("objects/"), 1U);
  for (const auto& file : files_of(root_)) {
    if (!file.starts_with("packs/")) continue;
    EXPECT_EQ(std::filesystem::file_size(path(file)), kPackHeadSize + small.size());
  }
}

TEST_F(ObjectStoreTest, TwoWritersOfOneContentKeepItOnce) {
  std::string small = random_bytes(20'000, 9);
  std::string large = random_bytes(200'000, 10);
  auto first = value_of(store_->objects().make_writer());
  auto second = value_of(store_->objects().make_writer());
  for (auto* writer : {first.get(), second.get()}) {
    value_of(writer->put(as_bytes(small)));
    value_of(writer->put(as_bytes(large)));
  }
  ASSERT_DONE(first->finish());
  ASSERT_DONE(second->finish());
  EXPECT_EQ(read(sha256(small)), small);
  EXPECT_EQ(read(sha256(large)), large);
  EXPECT_EQ(count("packs/"), 1U);
  EXPECT_EQ(count("objects/"), 1U);
  EXPECT_EQ(problems_of(*store_), "");
}

TEST_F(ObjectStoreTest, ManyThreadsWriteAndReadAtOnce) {
  constexpr int kThreads = 4;
  constexpr std::uint64_t kObjects = 60;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      auto writer = value_of(store_->objects().make_writer());
      // Half of what each thread writes is written by all.
      for (std::uint64_t i = 0; i < kObjects; ++i) {
        std::uint64_t seed = i % 2 == 0 ? i : i + 1000 * static_cast<std::uint64_t>(t + 1);
        value_of(writer->put(as_bytes(random_bytes(i % 10 == 0 ? 70'000 : 500, seed))));
      }
      value_of(writer->finish());
      for (std::uint64_t i = 0; i < kObjects; i += 2) {
        std::string expected = random_bytes(i % 10 == 0 ? 70'000 : 500, i);
        EXPECT_EQ(read(sha256(expected)), expected);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(problems_of(*store_), "");
}

TEST_F(ObjectStoreTest, HolesOfALargeContentTakeNoDisk) {
  constexpr std::uint64_t kHole = 64 << 20;
  auto writer = value_of(store_->objects().make_writer());
  ASSERT_DONE(writer->begin(0));
  ASSERT_DONE(writer->append(as_bytes("begin")));
  ASSERT_DONE(writer->append_hole(kHole));
  ASSERT_DONE(writer->append(as_bytes("middle")));
  ASSERT_DONE(writer->append_hole(1000));
  Digest digest = value_of(writer->end());
  ASSERT_DONE(writer->finish());
  std::string expected = "begin" + std::string(kHole, '\0') + "middle" + std::string(1000, '\0');
  EXPECT_EQ(digest, sha256(expected));
  auto blob = value_of(store_->objects().open(digest));
  EXPECT_TRUE(read_blob(blob) == expected);
  EXPECT_LT(value_of(stat_fd(blob.file->get())).st_blocks * 512, 1 << 20);
}

TEST_F(ObjectStoreTest, HolesOfASmallContentAreZeros) {
  auto writer = value_of(store_->objects().make_writer());
  ASSERT_DONE(writer->begin(0));
  ASSERT_DONE(writer->append_hole(10));
  ASSERT_DONE(writer->append(as_bytes("x")));
  ASSERT_DONE(writer->append_hole(5));
  Digest digest = value_of(writer->end());
  ASSERT_DONE(writer->finish());
  EXPECT_EQ(read(digest), std::string(10, '\0') + "x" + std::string(5, '\0'));
  EXPECT_EQ(count("objects/"), 0U);
}

TEST_F(ObjectStoreTest, APackThatIsCutShortIsAnErrorOfItsObjects) {
  Digest first = put_one("first");
  for (const auto& file : files_of(root_)) std::filesystem::resize_file(path(file), kPackHeadSize + 2);
  reopen();
  auto blob = store_->objects().open(first);
  ASSERT_FALSE(blob);
  EXPECT_EQ(blob.error().kind, ErrorKind::kCorrupt);
  EXPECT_NE(problems_of(*store_, CheckDepth::kStructure), "");
}

TEST_F(ObjectStoreTest, AFileThatIsNoPackIsRefused) {
  Digest first = put_one("first");
  for (const auto& file : files_of(root_)) {
    auto fd = value_of(open_file(path(file), O_WRONLY));
    value_of(pwrite_full(fd.get(), as_bytes("XXXX"), 0));
  }
  reopen();
  EXPECT_EQ(store_->objects().open(first).error().kind, ErrorKind::kCorrupt);
}

TEST_F(ObjectStoreTest, ADamagedByteIsFoundByACheckOfContents) {
  Digest small = put_one("some small content");
  Digest large = put_one(random_bytes(100'000, 11));
  EXPECT_EQ(problems_of(*store_), "");
  for (const auto& file : files_of(root_)) {
    auto fd = value_of(open_file(path(file), O_WRONLY));
    value_of(pwrite_full(fd.get(), as_bytes("?"), file.starts_with("packs/") ? kPackHeadSize + 3 : 50'000));
  }
  // That a file was written to is seen when it is opened; a pack's bytes only when they are read.
  std::string problems = problems_of(*store_, CheckDepth::kStructure);
  EXPECT_EQ(problems.find(small.str()), std::string::npos);
  EXPECT_NE(problems.find(large.str()), std::string::npos);
  problems = problems_of(*store_);
  EXPECT_NE(problems.find(small.str()), std::string::npos);
  EXPECT_NE(problems.find(large.str()), std::string::npos);
}

TEST_F(ObjectStoreTest, AMissingFileIsCorruptNotAbsent) {
  Digest large = put_one(random_bytes(100'000, 12));
  for (const auto& file : files_of(root_)) std::filesystem::remove(path(file));
  EXPECT_EQ(store_->objects().open(large).error().kind, ErrorKind::kCorrupt);
}

}  // namespace
}  // namespace layerfs::store
