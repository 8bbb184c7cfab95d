// SPDX-License-Identifier: Apache-2.0
// Flushes that fail, a disk that is full, files that are damaged: nothing acknowledged is lost, what can't be
// trusted is refused, and the process lives on.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <random>
#include <string>
#include <thread>

#include "fs/base/bytes.h"
#include "fs/base/sys_file.h"
#include "fs/upper/delta_open.h"
#include "fs/upper/dirty_ranges.h"
#include "tests/base/scratch_dir.h"
#include "tests/upper/delta_model.h"

namespace layerfs::upper {
namespace {

using test::write_whole;
using tree::ChangeSet;
using tree::Ino;

/// Fails where it is told to, counts, and may be slow.
struct FaultySync final : SyncOps {
  Result<void> sync_data(int fd) override {
    ++calls;
    if (pause.count() != 0) std::this_thread::sleep_for(pause);
    std::array<char, 4096> path{};
    const auto length = readlink(fmt::format("/proc/self/fd/{}", fd).c_str(), path.data(), path.size());
    const bool is_log =
        length > 0 && std::string_view(path.data(), static_cast<std::size_t>(length)).ends_with("/redo.log");
    if (is_log) ++log_calls;
    if (is_log ? log_fails.load() : data_fails.load()) return errno_error(EIO);
    return {};
  }
  Result<void> sync_all(int) override { return {}; }
  Result<void> sync_file_system(int) override {
    ++calls;
    return data_fails ? errno_error(EIO) : Result<void>{};
  }
  std::atomic<bool> log_fails{false};
  std::atomic<bool> data_fails{false};
  std::atomic<int> calls{0};
  std::atomic<int> log_calls{0};
  std::chrono::milliseconds pause{0};
};

class DeltaFaultTest : public test::DeltaFixture {
 protected:
  DeltaFaultTest() : DeltaFixture(21) {
    tuning_.retry_period = std::chrono::milliseconds(5);
    tuning_.sync = &sync_;
  }
  void write_file(tree::UpperLayer& upper, Ino ino, std::string_view bytes) {
    auto file = upper.create_data(ino);
    ASSERT_TRUE(file);
    ASSERT_TRUE(pwrite_full((*file)->get(), as_bytes(bytes), 0));
    tree::Node node;
    node.content = tree::ContentKind::kData;
    node.size = bytes.size();
    put(upper, {{tree::PutNode{ino, node}}});
  }

  FaultySync sync_;
};

TEST_F(DeltaFaultTest, AFailedFlushOfTheLogIsMadeGoodByACheckpoint) {
  auto upper = open();
  change(*upper, 50);
  sync_.log_fails = true;
  // The checkpoint needs nothing of the log, so it succeeds although the log fails.
  EXPECT_TRUE(upper->sync_node(Ino{500}, tree::FsyncKind::kAll));
  change(*upper, 50);
  EXPECT_TRUE(upper->sync_node(Ino{500}, tree::FsyncKind::kAll));
  EXPECT_EQ(test::dump(*upper), model_.dump());
  change(*upper, 50);
  sync_.data_fails = true;
  EXPECT_EQ(upper->sync_node(Ino{500}, tree::FsyncKind::kAll).error().code, EIO)
      << "neither log nor checkpoint";
  sync_.data_fails = false;
  sync_.log_fails = false;
  change(*upper, 50);
  EXPECT_TRUE(upper->sync_node(Ino{500}, tree::FsyncKind::kAll));
  {
    // As a process would find it that comes after this one was killed.
    auto reader = open({.read_only = true});
    EXPECT_EQ(test::dump(*reader), model_.dump());
  }
  upper.reset();
  EXPECT_EQ(test::dump(*open()), model_.dump());
}

// With more attempts than the log has segments, because each seals it.
TEST_F(DeltaFaultTest, AttemptsThatFailDoNotFillTheLog) {
  auto upper = open();
  sync_.log_fails = true;
  sync_.data_fails = true;
  for (int i = 0; i < 100; ++i) {
    change(*upper, 1);
    EXPECT_EQ(upper->sync_node(Ino{500}, tree::FsyncKind::kAll).error().code, EIO);
    if (HasFatalFailure()) FAIL() << "after " << i << " attempts";
  }
  sync_.log_fails = false;
  sync_.data_fails = false;
  change(*upper, 1);
  EXPECT_TRUE(upper->sync_node(Ino{500}, tree::FsyncKind::kAll));
  upper.reset();
  EXPECT_EQ(test::dump(*open()), model_.dump());
}

// The pages of a flush that failed may be lost for good, with the mark in them.
TEST_F(DeltaFaultTest, WhatFollowsAFailedFlushIsReachedWithoutItsPages) {
  auto upper = open();
  change(*upper, 3);
  sync_.log_fails = true;
  ASSERT_TRUE(upper->sync_node(Ino{500}, tree::FsyncKind::kAll));
  sync_.log_fails = false;
  const std::string before = *read_file(path_ + "/redo.log");
  ASSERT_EQ((*RedoScan::scan(before))->segments().size(), 1U);
  ASSERT_EQ((*RedoScan::scan(before))->segments().front().index, 0U);
  change(*upper, 3);
  ASSERT_TRUE(upper->sync_node(Ino{500}, tree::FsyncKind::kAll));
  const std::string copy = dir_ / "copy";
  std::filesystem::copy(path_, copy, std::filesystem::copy_options::recursive);
  std::string log = *read_file(copy + "/redo.log");
  log.replace(kLogHeaderSize, kMinSegmentSize, kMinSegmentSize, '\0');
  write_whole(copy + "/redo.log", log);
  tuning_.boot_id = [] { return BootId{1}; };
  const auto after = open_delta_with(copy, {}, tuning_);
  ASSERT_TRUE(after) << after.error().message();
  EXPECT_EQ(test::dump(**after), model_.dump());
}

TEST_F(DeltaFaultTest, AFewBytesTakeOneFlush) {
  constexpr Ino kFile{700};
  auto upper = open();
  write_file(*upper, kFile, "first");
  ASSERT_TRUE(upper->sync());
  const auto append = [&](std::size_t length, bool tell) {
    const auto file = upper->open_data(kFile);
    ASSERT_TRUE(file);
    tree::Node node = *upper->find_node(kFile);
    ASSERT_TRUE(pwrite_full((*file)->get(), as_bytes(std::string(length, 'x')), node.size));
    ChangeSet set;
    if (tell) set.written = {kFile, node.size, length};
    node.size += length;
    set.changes.emplace_back(tree::PutNode{kFile, node});
    ASSERT_TRUE(upper->apply(set));
    model_.apply(set);
  };
  const auto flushes = [&](tree::FsyncKind kind) {
    const int before = sync_.calls;
    EXPECT_TRUE(upper->sync_node(kFile, kind));
    return sync_.calls - before;
  };
  append(100, true);
  EXPECT_EQ(flushes(tree::FsyncKind::kAll), 1) << "the log's";
  EXPECT_EQ(flushes(tree::FsyncKind::kAll), 0) << "nothing is new";
  append(100, false);
  EXPECT_EQ(flushes(tree::FsyncKind::kAll), 2) << "the file's too";
  append(DirtyRanges::kMaxBytes + 1, true);
  EXPECT_EQ(flushes(tree::FsyncKind::kAll), 2) << "the file's too";
  append(100, true);
  EXPECT_EQ(flushes(tree::FsyncKind::kAll), 1);
  EXPECT_EQ(flushes(tree::FsyncKind::kDataOnly), 0) << "the log has it";
  // The log fails: then the files are flushed, and the checkpoint.
  append(100, true);
  sync_.log_fails = true;
  EXPECT_EQ(flushes(tree::FsyncKind::kAll), 3);
  sync_.log_fails = false;
  sync_.data_fails = true;
  append(100, true);
  EXPECT_EQ(flushes(tree::FsyncKind::kAll), 1) << "the files need not be flushed yet";
  EXPECT_FALSE(upper->sync()) << "a checkpoint needs them";
  sync_.data_fails = false;
  upper.reset();
  EXPECT_EQ(test::dump(*open()), model_.dump());
}

TEST_F(DeltaFaultTest, AFlushOfDataAloneTakesTheLogOnlyWhereItIsNeeded) {
  constexpr Ino kPlain{700};
  constexpr Ino kRanged{701};
  auto upper = open();
  write_file(*upper, kPlain, "data");
  tree::Node ranged;
  ranged.content = tree::ContentKind::kData;
  ranged.object.bytes[0] = 1;
  ranged.size = ranged.base_size = 1 << 20;
  ASSERT_TRUE(upper->create_data(kRanged));
  ASSERT_TRUE(upper->apply({{tree::PutNode{kRanged, ranged}, tree::AddExtent{kRanged, 0, 100}}}));
  const auto takes_log = [&](Ino ino, tree::FsyncKind kind) {
    const int before = sync_.calls;
    const int log_before = sync_.log_calls;
    EXPECT_TRUE(upper->sync_node(ino, kind));
    EXPECT_GT(sync_.calls, before);
    return sync_.log_calls > log_before;
  };
  const auto change_node = [&](Ino ino, auto change) {
    tree::Node node = *upper->find_node(ino);
    node.mtime = node.ctime = {++node.mtime.seconds, 0};
    change(node);
    ASSERT_TRUE(upper->apply({{tree::PutNode{ino, node}}}));
  };
  const auto nothing_else = [](tree::Node&) {};

  EXPECT_TRUE(takes_log(kPlain, tree::FsyncKind::kDataOnly)) << "its node is not on disk yet";
  change_node(kPlain, nothing_else);
  EXPECT_FALSE(takes_log(kPlain, tree::FsyncKind::kDataOnly));
  change_node(kPlain, [](tree::Node& node) { node.mode = 0600, node.uid = tree::Uid{7}; });
  EXPECT_FALSE(takes_log(kPlain, tree::FsyncKind::kDataOnly));
  EXPECT_TRUE(takes_log(kPlain, tree::FsyncKind::kAll)) << "the times";
  change_node(kPlain, [](tree::Node& node) { ++node.size; });
  change_node(kPlain, [](tree::Node& node) { --node.size; });
  EXPECT_TRUE(takes_log(kPlain, tree::FsyncKind::kDataOnly)) << "what it went through may be on disk";

  EXPECT_FALSE(takes_log(kRanged, tree::FsyncKind::kDataOnly));
  ASSERT_TRUE(upper->apply({{tree::AddExtent{kRanged, 20, 30}}}));
  EXPECT_FALSE(takes_log(kRanged, tree::FsyncKind::kDataOnly));
  ASSERT_TRUE(upper->apply({{tree::AddExtent{kRanged, 90, 30}}}));
  EXPECT_TRUE(takes_log(kRanged, tree::FsyncKind::kDataOnly));
  ASSERT_TRUE(upper->apply({{tree::TrimExtents{kRanged, 50}}}));
  EXPECT_TRUE(takes_log(kRanged, tree::FsyncKind::kDataOnly));

  change_node(kPlain, nothing_else);
  sync_.data_fails = true;
  EXPECT_EQ(upper->sync_node(kPlain, tree::FsyncKind::kDataOnly).error().code, EIO);
}

TEST_F(DeltaFaultTest, AFailedFlushOfDataIsReportedAndTriedAgain) {
  auto upper = open();
  write_file(*upper, Ino{700}, "data");
  sync_.data_fails = true;
  EXPECT_EQ(upper->sync_node(Ino{1}, tree::FsyncKind::kAll).error().code, EIO)
      << "a mark would cover the file as well";
  EXPECT_EQ(upper->sync().error().code, EIO);
  sync_.data_fails = false;
  const int before = sync_.calls;
  EXPECT_TRUE(upper->sync_node(Ino{1}, tree::FsyncKind::kAll));
  EXPECT_GE(sync_.calls - before, 2) << "the file and the log";
  EXPECT_TRUE(upper->sync());
  upper.reset();
  EXPECT_EQ(test::dump(*open()), model_.dump());
}

TEST_F(DeltaFaultTest, ACloseThatCannotFlushKeepsTheLog) {
  {
    auto upper = open();
    change(*upper, 20);
    write_file(*upper, Ino{700}, "data");
    sync_.data_fails = true;
  }
  sync_.data_fails = false;
  EXPECT_EQ(test::dump(*open()), model_.dump());
}

TEST_F(DeltaFaultTest, CallersThatComeTogetherShareAFlush) {
  constexpr int kCallers = 8;
  constexpr int kRounds = 10;
  sync_.pause = std::chrono::milliseconds(3);
  auto upper = open();
  sync_.calls = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kCallers; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < kRounds; ++i) {
        ASSERT_TRUE(upper->apply({{tree::PutTombstone{Ino{1}, fmt::format("{} {}", t, i)}}}));
        ASSERT_TRUE(upper->sync_node(Ino{1}, tree::FsyncKind::kAll));
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_LT(sync_.calls, kCallers * kRounds / 2);
  EXPECT_GE(sync_.calls, kRounds);
}

TEST_F(DeltaFaultTest, NothingToFlushCostsNoFlush) {
  auto upper = open();
  change(*upper, 5);
  ASSERT_TRUE(upper->sync_node(Ino{1}, tree::FsyncKind::kAll));
  const int before = sync_.calls;
  ASSERT_TRUE(upper->sync_node(Ino{1}, tree::FsyncKind::kAll));
  EXPECT_EQ(sync_.calls, before);
}

TEST_F(DeltaFaultTest, AVolatileDeltaIsRefusedAfterAPowerFailure) {
  tuning_.boot_id = [] { return BootId{1}; };
  const std::string copy = dir_ / "copy";
  {
    auto upper = open({.is_volatile = true});
    change(*upper, 5);
    ASSERT_TRUE(make_dir(copy, 0700));
    for (const char* name : {"/redo.log", "/checkpoint"}) write_whole(copy + name, *read_file(path_ + name));
  }
  {
    // The same boot: a process died.
    const auto opened = open_delta_with(copy, {.read_only = true}, tuning_);
    ASSERT_TRUE(opened);
    EXPECT_EQ(test::dump(**opened), model_.dump());
  }
  tuning_.boot_id = [] { return BootId{2}; };
  EXPECT_EQ(open_delta_with(copy, {}, tuning_).error().kind, ErrorKind::kCorrupt);
  EXPECT_EQ(open_delta_with(copy, {.read_only = true}, tuning_).error().kind, ErrorKind::kCorrupt);
  EXPECT_EQ(test::dump(*open()), model_.dump()) << "it was closed cleanly";
}

/// Opens a damaged copy in a child process, so that a crash is seen as one. True: it was opened.
bool opens(const std::string& path, const DeltaTuning& tuning) {
  const pid_t child = fork();
  if (child == 0) {
    bool opened = false;
    for (const bool read_only : {true, false}) {
      auto upper = open_delta_with(path, {.read_only = read_only}, tuning);
      opened = upper.has_value();
      if (opened) test::dump(**upper);
    }
    _exit(opened ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status)) << "died of signal " << WTERMSIG(status);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST_F(DeltaFaultTest, DamagedBytesAreRefusedOrDroppedNeverACrash) {
  std::string log;
  std::string records;
  {
    auto upper = open();
    change(*upper, 300);
    ASSERT_TRUE(upper->sync());
    change(*upper, 100);
    log = *read_file(path_ + "/redo.log");
    records = *read_file(path_ + "/checkpoint");
  }
  const std::string copy = dir_ / "copy";
  std::mt19937_64 random(std::random_device{}());
  int opened = 0;
  for (int round = 0; round < 300; ++round) {
    std::string damaged_log = log;
    std::string damaged_records = records;
    std::string& victim = round % 3 == 0 ? damaged_log : damaged_records;
    const std::uint64_t places = 1 + random() % 8;
    std::string what;
    for (std::uint64_t i = 0; i < places; ++i) {
      const std::size_t at = random() % victim.size();
      victim[at] = static_cast<char>(random());
      what += fmt::format(" {}={}", at, static_cast<int>(victim[at]));
    }
    if (round % 10 == 9) victim.resize(random() % victim.size());
    SCOPED_TRACE(fmt::format("{}{} size {}", round % 3 == 0 ? "log" : "records", what, victim.size()));
    ASSERT_TRUE(remove_tree(copy));
    ASSERT_TRUE(make_dir(copy, 0700));
    write_whole(copy + "/redo.log", damaged_log);
    write_whole(copy + "/checkpoint", damaged_records);
    opened += opens(copy, tuning_) ? 1 : 0;
  }
  EXPECT_GT(opened, 0) << "damage of unused bytes is no damage";
}

}  // namespace
}  // namespace layerfs::upper
