// SPDX-License-Identifier: Apache-2.0
// Power failures at the moments that the random lives of delta_power_test.cc nearly never meet: each test
// brings the delta to one such moment and looks at many pictures of it.
#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "fs/base/bytes.h"
#include "fs/base/sys_file.h"
#include "fs/upper/checkpoint_file.h"
#include "fs/upper/delta_open.h"
#include "tests/base/scratch_dir.h"
#include "tests/upper/delta_model.h"
#include "tests/upper/power_shadow.h"

namespace layerfs::upper {
namespace {

using tree::Ino;

class DeltaPowerMomentTest : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kFirst = 1000;
  static constexpr Ino kFile{2000};

  static DeltaTuning tuning_of(SyncOps& sync, std::uint8_t machine) {
    DeltaTuning tuning;
    tuning.segment_size = kMinSegmentSize;
    // Only the test flushes.
    tuning.flush_period = std::chrono::hours(1);
    tuning.sync = &sync;
    tuning.boot_id = [machine] { return test::boot_of(machine); };
    return tuning;
  }
  static std::unique_ptr<tree::UpperLayer> open(const std::string& path, const DeltaTuning& tuning,
                                                DeltaOptions options = {}) {
    auto upper = open_delta_with(path, options, tuning);
    EXPECT_TRUE(upper) << upper.error().message();
    return upper ? std::move(*upper) : nullptr;
  }
  /// Gives `count` inodes a value of about 900 bytes each, as one change an inode.
  void change(tree::UpperLayer& upper, std::uint64_t count) {
    ++round_;
    for (std::uint64_t i = 0; i < count; ++i) {
      const Ino ino{kFirst + i};
      const tree::ChangeSet set{{tree::PutNode{ino, tree::Node{}},
                                 tree::PutXattr{ino, "user.round", fmt::format("{:0900}", round_)}}};
      ASSERT_TRUE(upper.apply(set));
      model_.apply(set);
      dumps_.push_back(model_.dump());
    }
  }
  enum class Refusal : std::uint8_t { kNever, kAsVolatile };
  /// Of `count` pictures each must open and be a moment that is not before `acknowledged`, an index of dumps_;
  /// or be refused, where that is allowed.
  void check_pictures(const Shadow& shadow, int count, std::size_t acknowledged,
                      Refusal refusal = Refusal::kNever) {
    for (int i = 0; i < count && !HasFatalFailure(); ++i) {
      const std::string path = dir_ / "after";
      stdfs::remove_all(path);
      shadow.picture(path, random_);
      SyncOps real;
      const auto after = open_delta_with(path, {.read_only = true}, tuning_of(real, 2));
      if (!after && refusal == Refusal::kAsVolatile) {
        ASSERT_NE(after.error().message().find("volatile"), std::string::npos) << after.error().message();
        continue;
      }
      ASSERT_TRUE(after) << "picture " << i << ": " << after.error().message();
      const auto found = test::dump(**after);
      const auto first = dumps_.begin() + static_cast<std::ptrdiff_t>(acknowledged);
      ASSERT_NE(std::find(first, dumps_.end(), found), dumps_.end()) << "picture " << i;
    }
  }

  ScratchDir dir_;
  std::mt19937_64 random_{1};
  test::Model model_;
  std::vector<test::Dump> dumps_{test::Dump{}};
  std::uint64_t round_ = 0;
};

// A process that died in a flush leaves a mark that may be in the page cache alone. Were it not on disk when the
// next process appends its own, two marks could reach the disk without the records before them, which is what
// damage looks like: the delta would be refused (DELTA.md, "going on").
TEST_F(DeltaPowerMomentTest, AMarkThatAProcessDiedWithIsNoSignOfAFlush) {
  bool died_in_flush = true;
  for (int at = 1; died_in_flush && !HasFatalFailure(); ++at) {
    SCOPED_TRACE(fmt::format("the first process dies before call {} of its flush", at));
    const std::string path = dir_ / fmt::format("delta {}", at);
    const std::string taken_over = path + " taken over";
    model_ = {};
    dumps_ = {test::Dump{}};
    Shadow shadow(path);
    const auto first = open(path, tuning_of(shadow, 1));
    ASSERT_TRUE(first);
    change(*first, 3);
    ASSERT_TRUE(first->sync());
    ASSERT_TRUE(first->sync_node(kFile, tree::FsyncKind::kAll));
    const std::size_t acknowledged = dumps_.size() - 1;
    change(*first, 9);  // over more than two pages of the log
    int calls = 0;
    died_in_flush = false;
    shadow.on_sync = [&] {
      if (++calls != at) return;
      shadow.move_to(taken_over);
      died_in_flush = true;
    };
    ASSERT_TRUE(first->sync_node(kFile, tree::FsyncKind::kAll));
    shadow.on_sync = nullptr;
    if (!died_in_flush) {
      ASSERT_GT(at, 1) << "the flush flushed nothing";
      break;
    }
    shadow.watch();
    const auto second = open(taken_over, tuning_of(shadow, 1));
    ASSERT_TRUE(second);
    change(*second, 1);
    shadow.on_sync = [&] { check_pictures(shadow, 60, acknowledged); };
    ASSERT_TRUE(second->sync_node(kFile, tree::FsyncKind::kAll));
    shadow.on_sync = nullptr;
  }
}

// The header says that the file begins behind the oldest blocks before these are a hole.
TEST_F(DeltaPowerMomentTest, ACheckpointThatIsCompactedIsWholeAtEveryMoment) {
  const std::string path = dir_ / "delta";
  Shadow shadow(path);
  DeltaTuning tuning = tuning_of(shadow, 1);
  tuning.writes_whole = false;
  tuning.checkpoint_slack = 2000;
  const auto upper = open(path, tuning);
  ASSERT_TRUE(upper);
  const auto begins_at = [&] {
    const auto bytes = read_file(path + "/checkpoint", std::size_t{1} << 30);
    return bytes ? load_le<std::uint64_t>(bytes->data() + 12) : 0;
  };
  std::uint64_t begins = 0;
  int compactions = 0;
  for (int round = 0; round < 8 && !HasFatalFailure(); ++round) {
    change(*upper, 20);
    const std::size_t acknowledged = dumps_.size() - 1;
    ASSERT_TRUE(upper->sync_node(kFile, tree::FsyncKind::kAll));
    check_pictures(shadow, 4, acknowledged);
    shadow.on_sync = [&] { check_pictures(shadow, 8, acknowledged); };
    ASSERT_TRUE(upper->sync());
    shadow.on_sync = nullptr;
    if (const std::uint64_t now = begins_at(); now > begins && round > 0) ++compactions, begins = now;
  }
  EXPECT_GT(compactions, 1);
}

// A checkpoint file that append() made is there with its first batch. (A delta's own flushes of its directory
// hide whether the file sees to that itself.)
TEST_F(DeltaPowerMomentTest, ANewCheckpointFileIsThereAfterItsFirstBatch) {
  const std::string path = dir_ / "delta";
  ASSERT_TRUE(make_dir(path, 0700));
  Shadow shadow(path);
  const auto file = CheckpointFile::open(path + "/checkpoint", CheckpointMode::kDurable, shadow);
  ASSERT_TRUE(file) << file.error().message();
  const auto fill = [](RecordSink& sink) { return sink.put("key", "value"); };
  ASSERT_TRUE((*file)->append(fill, Room::kTakeAll));
  for (int i = 0; i < 20; ++i) {
    const std::string after = dir_ / fmt::format("after {}", i);
    shadow.picture(after, random_);
    ASSERT_TRUE(stdfs::exists(after + "/checkpoint")) << "picture " << i;
    const auto there = CheckpointFile::open(after + "/checkpoint", CheckpointMode::kReadOnly, shadow);
    ASSERT_TRUE(there) << there.error().message();
    EXPECT_TRUE((*there)->has_batch()) << "picture " << i;
  }
}

// The only copy of what a flush brought to the log alone is in that log. Whoever puts it back into its file
// flushes the file before the log begins anew.
TEST_F(DeltaPowerMomentTest, WhatWasPutBackFromTheLogOutlivesASecondFailure) {
  const std::string path = dir_ / "delta";
  Shadow shadow(path);
  const auto upper = open(path, tuning_of(shadow, 1));
  ASSERT_TRUE(upper);
  const auto file = upper->create_data(kFile);
  ASSERT_TRUE(file);
  tree::Node node;
  node.content = tree::ContentKind::kData;
  node.data_reaches = true;
  node.size = 8;
  const auto write = [&](std::string_view bytes) {
    ASSERT_TRUE(pwrite_full((*file)->get(), as_bytes(bytes), 0));
    ++node.mtime.seconds;
    tree::ChangeSet set{{tree::PutNode{kFile, node}}};
    set.written = {kFile, 0, bytes.size()};
    ASSERT_TRUE(upper->apply(set));
    ASSERT_TRUE(upper->sync_node(kFile, tree::FsyncKind::kAll));
  };
  write("in file.");
  ASSERT_TRUE(upper->sync());
  bool flushed_file = false;
  shadow.on_flush = [&](const std::string& flushed) {
    flushed_file = flushed_file || flushed.find("/data/") != std::string::npos;
  };
  write("precious");
  shadow.on_flush = nullptr;
  ASSERT_FALSE(flushed_file) << "the test needs bytes of which only the log is on disk";
  for (int i = 0; i < 16 && !HasFatalFailure(); ++i) {
    SCOPED_TRACE(fmt::format("picture {}", i));
    const std::string once = dir_ / fmt::format("once {}", i);
    shadow.picture(once, random_);
    Shadow second(once);
    const auto after = open(once, tuning_of(second, 2));
    ASSERT_TRUE(after);
    for (int k = 0; k < 8; ++k) {
      const std::string twice = dir_ / "twice";
      stdfs::remove_all(twice);
      second.picture(twice, random_);
      SyncOps real;
      const auto last = open(twice, tuning_of(real, 3));
      ASSERT_TRUE(last);
      const auto data = last->open_data(kFile);
      ASSERT_TRUE(data) << data.error().message();
      std::string bytes(8, '\0');
      ASSERT_EQ(*pread_full((*data)->get(), std::as_writable_bytes(std::span(bytes)), 0), 8U);
      ASSERT_EQ(bytes, "precious");
    }
  }
}

// Who opens without `volatile` what a process that died had in use with it has all of it on disk, and the log
// says so: it is not refused after a power failure.
TEST_F(DeltaPowerMomentTest, OpeningWhatWasVolatileMakesItDurable) {
  const std::string path = dir_ / "delta";
  Shadow shadow(path);
  const auto first = open(path, tuning_of(shadow, 1), {.is_volatile = true});
  ASSERT_TRUE(first);
  change(*first, 30);
  const std::string taken_over = dir_ / "taken over";
  shadow.move_to(taken_over);
  shadow.watch();
  const auto second = open(taken_over, tuning_of(shadow, 1));
  ASSERT_TRUE(second);
  check_pictures(shadow, 40, dumps_.size() - 1);
}

// What was acknowledged is there still, or the delta is refused, whenever the power fails after a life with
// `volatile` began: an older state is never taken for the latest one.
TEST_F(DeltaPowerMomentTest, AVolatileLifeHidesNothingThatWasAcknowledged) {
  std::string path = dir_ / "delta";
  Shadow shadow(path);
  std::vector<std::unique_ptr<tree::UpperLayer>> dead;
  const auto die = [&](std::unique_ptr<tree::UpperLayer> upper, const std::string& next) {
    path = dir_ / next;
    shadow.move_to(path);
    shadow.watch();
    dead.push_back(std::move(upper));
  };
  auto first = open(path, tuning_of(shadow, 1));
  ASSERT_TRUE(first);
  change(*first, 10);
  ASSERT_TRUE(first->sync());  // a checkpoint, which alone is an older state
  change(*first, 10);
  ASSERT_TRUE(first->sync_node(Ino{kFirst}, tree::FsyncKind::kAll));
  const std::size_t acknowledged = dumps_.size() - 1;
  die(std::move(first), "volatile");
  shadow.on_sync = [&] { check_pictures(shadow, 10, acknowledged, Refusal::kAsVolatile); };
  auto second = open(path, tuning_of(shadow, 1), {.is_volatile = true});
  ASSERT_TRUE(second);
  check_pictures(shadow, 40, acknowledged, Refusal::kAsVolatile);
  change(*second, 30);
  check_pictures(shadow, 40, acknowledged, Refusal::kAsVolatile);
  die(std::move(second), "durable");
  const auto third = open(path, tuning_of(shadow, 1));
  ASSERT_TRUE(third);
  shadow.on_sync = nullptr;
  check_pictures(shadow, 40, dumps_.size() - 1);
}

// A clean close brings the delta's own name to disk too, where nothing else did.
TEST_F(DeltaPowerMomentTest, ACleanCloseIsDurableWithoutAnyFlushBefore) {
  const std::string path = dir_ / "delta";
  Shadow shadow(path);
  auto upper = open(path, tuning_of(shadow, 1));
  ASSERT_TRUE(upper);
  change(*upper, 10);
  upper.reset();
  check_pictures(shadow, 40, dumps_.size() - 1);
}

// A volatile life that was closed left nothing to disk. Who opens it without has all of it there.
TEST_F(DeltaPowerMomentTest, OpeningWhatAVolatileLifeClosedMakesItDurable) {
  const std::string path = dir_ / "delta";
  Shadow shadow(path);
  auto first = open(path, tuning_of(shadow, 1), {.is_volatile = true});
  ASSERT_TRUE(first);
  change(*first, 30);
  first.reset();
  const auto second = open(path, tuning_of(shadow, 1));
  ASSERT_TRUE(second);
  check_pictures(shadow, 40, dumps_.size() - 1);
}

// Of a volatile life that began from a clean close, durable or not, the disk says so.
TEST_F(DeltaPowerMomentTest, AVolatileLifeThatBeganCleanIsRefused) {
  for (const bool was_volatile : {false, true}) {
    SCOPED_TRACE(was_volatile ? "volatile" : "durable");
    model_ = {};
    dumps_ = {test::Dump{}};
    const std::string path = dir_ / fmt::format("delta {}", was_volatile);
    Shadow shadow(path);
    auto first = open(path, tuning_of(shadow, 1), {.is_volatile = was_volatile});
    ASSERT_TRUE(first);
    change(*first, 10);
    first.reset();
    if (was_volatile) {
      ASSERT_TRUE(shadow.sync_file_system(-1));  // the kernel has had the time
    }
    const auto second = open(path, tuning_of(shadow, 1), {.is_volatile = true});
    ASSERT_TRUE(second);
    change(*second, 30);
    for (int i = 0; i < 40; ++i) {
      const std::string after = dir_ / "after";
      stdfs::remove_all(after);
      shadow.picture(after, random_);
      SyncOps real;
      const auto found = open_delta_with(after, {.read_only = true}, tuning_of(real, 2));
      ASSERT_FALSE(found) << "picture " << i;
      ASSERT_NE(found.error().message().find("volatile"), std::string::npos) << found.error().message();
    }
  }
}

// A process dies when the kernel has its checkpoint and the disk has not. What the next one does, before its first
// flush too, leaves what the older checkpoint and the log have.
TEST_F(DeltaPowerMomentTest, ACheckpointThatOnlyTheCacheHasIsFlushedBeforeItCounts) {
  const std::string path = dir_ / "delta";
  Shadow shadow(path);
  DeltaTuning tuning = tuning_of(shadow, 1);
  tuning.checkpoint_segments = 60;  // only the test makes one
  const auto first = open(path, tuning);
  ASSERT_TRUE(first);
  change(*first, 4);
  ASSERT_TRUE(first->sync());
  change(*first, 400);  // some segments
  ASSERT_TRUE(first->sync_node(Ino{kFirst}, tree::FsyncKind::kAll));
  const std::size_t acknowledged = dumps_.size() - 1;
  const std::string taken_over = dir_ / "taken over";
  bool died = false;
  shadow.before_flush = [&](const std::string& flushed) {
    if (died || !flushed.ends_with("/checkpoint")) return;
    died = true;
    shadow.move_to(taken_over);
  };
  ASSERT_TRUE(first->sync());
  shadow.before_flush = nullptr;
  ASSERT_TRUE(died);
  shadow.watch();
  const auto second = open(taken_over, tuning);
  ASSERT_TRUE(second);
  check_pictures(shadow, 40, acknowledged);
  change(*second, 600);  // over the segments that the checkpoint gave back
  check_pictures(shadow, 100, acknowledged);
}

// What is changed between a flush's beginning and its reading of the data is not part of it, and takes nothing from
// it: a file that moves, one that is erased, one that is cut.
TEST_F(DeltaPowerMomentTest, AChangeWhileAFlushBeginsTakesNothingFromIt) {
  enum class Change : std::uint8_t { kMove, kErase, kCut };
  for (const auto& [what, kind] : {std::pair{Change::kMove, tree::ContentKind::kShared},
                                   std::pair{Change::kErase, tree::ContentKind::kShared},
                                   std::pair{Change::kErase, tree::ContentKind::kData},
                                   std::pair{Change::kCut, tree::ContentKind::kData}}) {
    SCOPED_TRACE(fmt::format("change {} of content {}", static_cast<int>(what), static_cast<int>(kind)));
    const std::string path =
        dir_ / fmt::format("delta {} {}", static_cast<int>(what), static_cast<int>(kind));
    Shadow shadow(path);
    DeltaTuning tuning = tuning_of(shadow, 1);
    tree::UpperLayer* upper = nullptr;
    std::function<void()> meanwhile;
    tuning.after_take = [&] {
      if (meanwhile) std::exchange(meanwhile, nullptr)();
    };
    const auto opened = open(path, tuning);
    ASSERT_TRUE(opened);
    upper = opened.get();
    // So that the delta's own names are on disk: what is looked for is the file's.
    ASSERT_TRUE(upper->apply({{tree::PutNode{Ino{kFirst}, tree::Node{}}}}));
    ASSERT_TRUE(upper->sync_node(Ino{kFirst}, tree::FsyncKind::kAll));
    tree::DataPlace place;
    if (kind == tree::ContentKind::kShared) {
      auto made = upper->create_shared(kFile);
      ASSERT_TRUE(made);
      place = *made;
    } else {
      auto made = upper->create_data(kFile);
      ASSERT_TRUE(made);
      place.file = *made;
    }
    ASSERT_TRUE(pwrite_full(place.fd(), as_bytes(std::string_view("precious")), place.offset));
    tree::Node node;
    node.content = kind;
    node.size = 8;
    node.data_reaches = true;
    tree::ChangeSet set{{tree::PutNode{kFile, node}}};
    set.written = {kFile, 0, 8};
    ASSERT_TRUE(upper->apply(set));
    meanwhile = [&] {
      tree::Node changed = node;
      changed.content = tree::ContentKind::kData;
      if (what == Change::kErase) {
        ASSERT_TRUE(upper->apply({{tree::EraseNode{kFile}}}));
      } else if (what == Change::kMove) {
        auto moved = upper->create_data(kFile);
        ASSERT_TRUE(moved);
        ASSERT_TRUE(pwrite_full((*moved)->get(), as_bytes(std::string_view("precious")), 0));
        ASSERT_TRUE(upper->apply({{tree::PutNode{kFile, changed}}}));
      } else {
        ASSERT_EQ(::ftruncate(place.fd(), 0), 0);
        changed.size = 0;
        changed.data_reaches = false;
        ASSERT_TRUE(upper->apply({{tree::PutNode{kFile, changed}}}));
      }
    };
    ASSERT_TRUE(upper->sync_node(kFile, tree::FsyncKind::kAll));
    ASSERT_FALSE(meanwhile) << "the flush did not take what is to be flushed";
    for (int i = 0; i < 40; ++i) {
      const std::string after = dir_ / "after";
      stdfs::remove_all(after);
      shadow.picture(after, random_);
      SyncOps real;
      const auto found = open_delta_with(after, {}, tuning_of(real, 2));
      ASSERT_TRUE(found) << "picture " << i << ": " << found.error().message();
      const auto there = (*found)->find_node(kFile);
      ASSERT_TRUE(there) << "picture " << i;
      EXPECT_EQ(there->size, 8U);
      if (what == Change::kCut) continue;  // its bytes may be old or new
      const auto data = test::find_place(**found, kFile);
      ASSERT_TRUE(data) << data.error().message();
      std::string bytes(8, '\0');
      ASSERT_EQ(*pread_full(data->fd(), std::as_writable_bytes(std::span(bytes)), data->offset), 8U);
      ASSERT_EQ(bytes, "precious") << "picture " << i;
    }
  }
}

}  // namespace
}  // namespace layerfs::upper
