// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/delta_upper.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <random>
#include <string>
#include <thread>
#include <variant>

#include "fs/base/bytes.h"
#include "fs/base/sys_file.h"
#include "fs/upper/data_name.h"
#include "fs/upper/delta_codec.h"
#include "fs/upper/delta_open.h"
#include "fs/upper/redo_scan.h"
#include "tests/base/scratch_dir.h"
#include "tests/upper/delta_model.h"

namespace layerfs::upper {
namespace {

using tree::ChangeSet;
using tree::Ino;

tree::Node file_node(std::uint64_t size) {
  tree::Node node;
  node.content = tree::ContentKind::kData;
  node.mode = 0644;
  node.size = size;
  return node;
}

class DeltaUpperTest : public ::testing::Test {
 protected:
  DeltaUpperTest() {
    tuning_.segment_size = kMinSegmentSize;
    tuning_.checkpoint_segments = 4;
    tuning_.max_segments = 16;
  }
  std::unique_ptr<tree::UpperLayer> open(DeltaOptions options = {}) {
    auto opened = open_delta_with(path_, options, tuning_);
    EXPECT_TRUE(opened) << opened.error().message();
    return opened ? std::move(*opened) : nullptr;
  }
  /// Bytes into the data file of `ino`, and the node that names them.
  static void write_file(tree::UpperLayer& upper, Ino ino, std::string_view bytes) {
    auto file = upper.create_data(ino);
    ASSERT_TRUE(file) << file.error().message();
    ASSERT_TRUE(pwrite_full((*file)->get(), as_bytes(bytes), 0));
    ASSERT_TRUE(upper.apply({{tree::PutNode{ino, file_node(bytes.size())}}}));
  }
  static std::string read_data(const tree::UpperLayer& upper, Ino ino) {
    auto file = upper.open_data(ino);
    if (!file) return "error: " + file.error().message();
    std::string bytes(1000, '\0');
    const auto got = pread_full((*file)->get(), std::as_writable_bytes(std::span(bytes)), 0);
    bytes.resize(*got);
    return bytes;
  }
  std::string data_path(Ino ino) {
    return dir_ / fmt::format("delta/data/{:02x}/{}", to_number(ino) / 64 % 256, to_number(ino));
  }
  bool has_data_file(Ino ino) { return access(data_path(ino).c_str(), F_OK) == 0; }

  ScratchDir dir_;
  const std::string path_ = dir_ / "delta";
  DeltaTuning tuning_;
};

TEST_F(DeltaUpperTest, RandomChangesSurviveCleanCloses) {
  test::ChangeMaker maker(11, 500);
  test::Model model;
  std::uint64_t counter = 0;
  for (int life = 0; life < 12; ++life) {
    auto upper = open();
    ASSERT_EQ(test::dump(*upper), model.dump()) << life;
    for (int i = 0; i < 400; ++i) {
      const ChangeSet set = maker.next(++counter);
      ASSERT_TRUE(upper->apply(set));
      model.apply(set);
      if (i % 97 == 0) {
        ASSERT_TRUE(upper->sync());
      }
      if (i % 31 == 0) {
        ASSERT_TRUE(upper->sync_node(Ino{501}, tree::FsyncKind::kAll));
      }
    }
    ASSERT_EQ(test::dump(*upper), model.dump()) << life;
  }
}

TEST_F(DeltaUpperTest, ACleanCloseLeavesOnlyTheLogsHeader) {
  {
    auto upper = open();
    ASSERT_TRUE(upper->apply({{tree::PutTombstone{Ino{1}, "gone"}}, 9}));
    EXPECT_TRUE(upper->was_applied(9));
  }
  EXPECT_EQ(read_file(path_ + "/redo.log")->size(), kLogHeaderSize);
  auto upper = open();
  EXPECT_EQ(upper->find_entry(Ino{1}, "gone").state, tree::EntryState::kTombstone);
  EXPECT_FALSE(upper->was_applied(9));
}

TEST_F(DeltaUpperTest, TheLatestRequestsAreKnownThroughManyDeaths) {
  constexpr std::uint64_t kLives = 20;
  constexpr std::uint64_t kAtOnce = 200;  // less than kRequestsStored in all
  std::string place = path_;
  for (std::uint64_t life = 0; life < kLives; ++life) {
    auto upper = open_delta_with(place, {}, tuning_);
    ASSERT_TRUE(upper) << upper.error().message();
    for (std::uint64_t i = 1; i <= kAtOnce; ++i)
      ASSERT_TRUE((*upper)->apply({{tree::PutTombstone{Ino{1}, "gone"}}, life * kAtOnce + i}));
    ASSERT_TRUE((*upper)->sync());
    // What a process leaves that dies now.
    const std::string left = dir_ / fmt::format("life{}", life);
    std::filesystem::copy(place, left, std::filesystem::copy_options::recursive);
    place = left;
  }
  const auto upper = open_delta_with(place, {}, tuning_);
  ASSERT_TRUE(upper) << upper.error().message();
  for (std::uint64_t request = 1; request <= kLives * kAtOnce; ++request)
    ASSERT_TRUE((*upper)->was_applied(request)) << request;
}

TEST_F(DeltaUpperTest, ASecondWriterIsRefusedByName) {
  auto upper = open();
  const auto second = open_delta_with(path_, {}, tuning_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, EBUSY);
  EXPECT_NE(second.error().message().find(path_), std::string::npos);
}

TEST_F(DeltaUpperTest, AReaderSeesWhatTheWriterHasAppliedAndChangesNothing) {
  test::ChangeMaker maker(12, 500);
  test::Model model;
  auto upper = open();
  for (std::uint64_t k = 1; k <= 700; ++k) {
    const ChangeSet set = maker.next(k);
    ASSERT_TRUE(upper->apply(set));
    model.apply(set);
    if (k % 100 != 0) continue;
    auto reader = open({.read_only = true});
    ASSERT_EQ(test::dump(*reader), model.dump()) << k;
    EXPECT_TRUE(reader->read_only());
    EXPECT_EQ(reader->apply(set).error().code, EROFS);
    EXPECT_EQ(reader->create_data(Ino{501}).error().code, EROFS);
    if (k % 300 == 0) {
      ASSERT_TRUE(upper->sync());
    }
  }
}

TEST_F(DeltaUpperTest, AReaderOfADirectoryWithoutADeltaSeesNothing) {
  ASSERT_TRUE(make_dir(path_, 0700));
  auto reader = open({.read_only = true});
  EXPECT_TRUE(test::dump(*reader).empty());
  EXPECT_TRUE(list_dir(path_)->empty());
  EXPECT_EQ(open_delta_with(dir_ / "nowhere", {.read_only = true}, tuning_).error().code, ENOENT);
}

TEST_F(DeltaUpperTest, DataFilesComeAndGoWithTheirInodes) {
  const Ino ino{tree::kFirstUpperIno + 3};
  {
    auto upper = open();
    write_file(*upper, ino, "hello");
    auto held = upper->open_data(ino);
    ASSERT_TRUE(held);
    EXPECT_EQ(upper->open_data(ino)->get(), held->get()) << "one descriptor while it is held";
    ASSERT_TRUE(upper->apply({{tree::EraseNode{ino}}}));
    EXPECT_TRUE(has_data_file(ino)) << "not before the erasure is durable";
    ASSERT_TRUE(upper->sync());
    EXPECT_FALSE(has_data_file(ino));
    std::string bytes(5, '\0');
    EXPECT_EQ(*pread_full((*held)->get(), std::as_writable_bytes(std::span(bytes)), 0), 5U);
    EXPECT_EQ(bytes, "hello");
    EXPECT_EQ(upper->open_data(ino).error().code, ENOENT);
    write_file(*upper, ino, "again");
    ASSERT_TRUE(upper->apply({{tree::EraseNode{ino}}}));
    write_file(*upper, ino, "new");  // before the old one is removed
    EXPECT_EQ(read_data(*upper, ino), "new");
  }
  auto upper = open();
  EXPECT_EQ(read_data(*upper, ino), "new");
}

TEST_F(DeltaUpperTest, ASharedFileGivesItsSpaceBackAndGoesWithItsLastInode) {
  const Ino first{tree::kFirstUpperIno - tree::kFirstUpperIno % kSharers + kSharers};
  const auto ino_at = [&](std::uint64_t index) { return Ino{to_number(first) + index}; };
  const std::string path =
      path_ + fmt::format("/data/{:02x}/s{}", to_number(first) / kSharers % 256, to_number(first) / kSharers);
  const auto blocks = [&] {
    struct stat st{};
    return stat(path.c_str(), &st) == 0 ? static_cast<std::int64_t>(st.st_blocks) * 512 : -1;
  };
  tree::Node node = file_node(10'000);
  node.content = tree::ContentKind::kShared;
  auto upper = open();
  for (std::uint64_t i = 0; i < kSharers; ++i) {
    const auto place = upper->create_shared(ino_at(i));
    ASSERT_TRUE(place);
    ASSERT_TRUE(pwrite_full(place->fd(), as_bytes(std::string(10'000, 'x')), place->offset));
    ASSERT_TRUE(upper->apply({{tree::PutNode{ino_at(i), node}}}));
  }
  ASSERT_TRUE(upper->sync());
  const std::int64_t all = blocks();
  EXPECT_GE(all, std::int64_t{10'000} * static_cast<std::int64_t>(kSharers));
  for (std::uint64_t i = 0; i < kSharers; ++i) {
    if (i == 5) continue;
    ASSERT_TRUE(upper->apply({{tree::EraseNode{ino_at(i)}}}));
  }
  EXPECT_EQ(blocks(), all) << "not before the erasure is durable";
  ASSERT_TRUE(upper->sync());
  EXPECT_LT(blocks(), all / 8);
  EXPECT_GT(blocks(), 0);
  ASSERT_TRUE(upper->apply({{tree::EraseNode{ino_at(5)}}}));
  ASSERT_TRUE(upper->sync());
  EXPECT_EQ(blocks(), -1);
}

TEST_F(DeltaUpperTest, InodeNumbersAreNeverGivenTwice) {
  std::set<std::uint64_t> given;
  for (int life = 0; life < 4; ++life) {
    auto upper = open();
    for (int i = 0; i < 5000; ++i) {
      const auto number = to_number(upper->allocate_ino());
      EXPECT_GE(number, tree::kFirstUpperIno);
      EXPECT_TRUE(given.insert(number).second) << number;
    }
  }
  auto upper = open();
  ASSERT_TRUE(upper->apply({{tree::PutNode{Ino{tree::kFirstUpperIno + 1'000'000}, {}}}}));
  upper.reset();
  upper = open();
  EXPECT_GT(to_number(upper->allocate_ino()), tree::kFirstUpperIno + 1'000'000);
}

TEST_F(DeltaUpperTest, OrphansAreTheNodesWithoutALink) {
  {
    auto upper = open();
    tree::Node node;
    node.nlink = 0;
    ASSERT_TRUE(upper->apply({{tree::PutNode{Ino{9}, node}, tree::PutNode{Ino{4}, node}}}));
    node.nlink = 1;
    ASSERT_TRUE(upper->apply({{tree::PutNode{Ino{5}, node}}}));
  }
  auto upper = open();
  EXPECT_EQ(upper->orphans(), (std::vector<Ino>{Ino{4}, Ino{9}}));
}

TEST_F(DeltaUpperTest, AChangeThatCannotBeStoredChangesNothing) {
  auto upper = open();
  const ChangeSet bad{
      {tree::PutTombstone{Ino{1}, "good"}, tree::PutTombstone{Ino{1}, std::string(300, 'n')}}};
  EXPECT_EQ(upper->apply(bad).error().code, EINVAL);
  const ChangeSet large{{tree::PutInline{Ino{1}, std::string(kMinSegmentSize, 'l')}}};
  EXPECT_EQ(upper->apply(large).error().code, E2BIG);
  EXPECT_TRUE(test::dump(*upper).empty());
}

TEST_F(DeltaUpperTest, VolatileKeepsEverythingThroughACleanClose) {
  test::ChangeMaker maker(13, 500);
  test::Model model;
  {
    auto upper = open({.is_volatile = true});
    for (std::uint64_t k = 1; k <= 3000; ++k) {
      const ChangeSet set = maker.next(k);
      ASSERT_TRUE(upper->apply(set));
      model.apply(set);
    }
    ASSERT_TRUE(upper->sync());
    ASSERT_TRUE(upper->sync_node(Ino{1}, tree::FsyncKind::kAll));
  }
  EXPECT_EQ(test::dump(*open()), model.dump());
}

TEST_F(DeltaUpperTest, ReadersAndWritersAtOnce) {
  constexpr int kThreads = 4;
  constexpr std::uint64_t kChanges = 400;
  auto upper = open();
  std::vector<test::Model> models(kThreads);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const std::uint64_t base = 1000 * (static_cast<std::uint64_t>(t) + 1);
      test::ChangeMaker maker(100 + static_cast<std::uint64_t>(t), base);
      for (std::uint64_t k = 1; k <= kChanges; ++k) {
        const ChangeSet set = maker.next(k);
        ASSERT_TRUE(upper->apply(set));
        models[static_cast<std::size_t>(t)].apply(set);
        ASSERT_EQ(test::ChangeMaker::counter_of(*upper, base), k);
        if (k % 50 == 0) {
          ASSERT_TRUE(upper->sync_node(Ino{base}, tree::FsyncKind::kAll));
        }
      }
    });
  }
  threads.emplace_back([&] {
    while (!stop) {
      test::dump(*upper);
      upper->orphans();
      upper->was_applied(4);
    }
  });
  threads.emplace_back([&] {
    while (!stop) ASSERT_TRUE(upper->sync());
  });
  for (int t = 0; t < kThreads; ++t) threads[static_cast<std::size_t>(t)].join();
  stop = true;
  threads[kThreads].join();
  threads[kThreads + 1].join();
  test::Dump expected;
  for (const test::Model& model : models) expected.merge(model.dump());
  EXPECT_EQ(test::dump(*upper), expected);
  upper.reset();
  EXPECT_EQ(test::dump(*open()), expected);
}

TEST_F(DeltaUpperTest, WhatNobodyAsksForIsFlushedInTime) {
  struct CountingSync : SyncOps {
    Result<void> sync_data(int) override { return ++count, Result<void>{}; }
    Result<void> sync_all(int) override { return {}; }
    Result<void> sync_file_system(int) override { return {}; }
    std::atomic<int> count{0};
  } sync;
  tuning_.sync = &sync;
  tuning_.flush_period = std::chrono::milliseconds(20);
  auto upper = open();
  ASSERT_TRUE(upper->apply({{tree::PutTombstone{Ino{1}, "x"}}}));
  for (int i = 0; i < 500 && sync.count == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_GT(sync.count, 0);
}

TEST_F(DeltaUpperTest, WhatAProcessThatDiedHasLeftIsFlushedInTimeToo) {
  tuning_.flush_period = std::chrono::hours(1);
  const auto died = open();
  ASSERT_TRUE(died->apply({{tree::PutTombstone{Ino{1}, "x"}}}));
  const std::string copy = dir_ / "copy";
  std::filesystem::copy(path_, copy, std::filesystem::copy_options::recursive);
  tuning_.flush_period = std::chrono::milliseconds(20);
  const auto next = open_delta_with(copy, {}, tuning_);
  ASSERT_TRUE(next) << next.error().message();
  std::uint64_t marked = 0;
  for (int i = 0; i < 2000 && marked == 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    const std::string log = *read_file(copy + "/redo.log");
    const auto scan = RedoScan::scan(log);
    ASSERT_TRUE(scan && *scan);
    ASSERT_TRUE((*scan)->for_each_from(1, [&](std::uint64_t, std::string_view body) -> Result<void> {
      const auto decoded = decode_body(body);
      const auto* mark = decoded ? std::get_if<LogMark>(&*decoded) : nullptr;
      if (mark != nullptr) marked = mark->flushed_to;
      return {};
    }));
  }
  EXPECT_EQ(marked, 1U);
}

}  // namespace
}  // namespace layerfs::upper
