// SPDX-License-Identifier: Apache-2.0
// Power failures, by a Shadow of what was flushed. A machine with another boot id opens that: what it
// finds must be the state after one change set, not before the last that was acknowledged by a flush.
// LAYERFS_POWER_SEEDS: how many seeds there are (6).
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "fs/base/bytes.h"
#include "fs/base/sys_file.h"
#include "fs/upper/delta_open.h"
#include "tests/base/scratch_dir.h"
#include "tests/upper/delta_model.h"
#include "tests/upper/power_shadow.h"

namespace layerfs::upper {
namespace {

using test::write_whole;
using tree::ChangeSet;
using tree::Ino;

class DeltaPowerTest : public ::testing::TestWithParam<std::uint64_t> {
 protected:
  static constexpr std::uint64_t kBase = 1000;
  static constexpr Ino kFile{2000};

  DeltaPowerTest() : random_(GetParam()), maker_(GetParam(), kBase), shadow_(dir_ / "delta") {
    tuning_.segment_size = kMinSegmentSize;
    tuning_.checkpoint_segments = 2 + static_cast<std::uint32_t>(random_() % 4);
    // So that it is written whole often, or compacted.
    if (GetParam() % 3 != 0) tuning_.checkpoint_slack = 2000;
    tuning_.writes_whole = GetParam() % 3 != 1;
    // The test is the only one to flush, so that it knows what is running when it takes a picture.
    tuning_.flush_period = std::chrono::hours(1);
    tuning_.sync = &shadow_;
    tuning_.boot_id = [] { return test::boot_of(1); };
  }

  static std::uint64_t record(std::uint64_t counter) { return counter * 0x9E3779B97F4A7C15ULL; }
  Result<void> step(tree::UpperLayer& upper) {
    const std::uint64_t counter = dumps_.size();
    ChangeSet set = maker_.next(counter);
    tree::Node node;
    node.size = counter * 8;
    node.data_reaches = true;
    LAYERFS_ASSIGN(const auto data, test::place_of_record(upper, kFile, counter, node));
    set.changes.push_back(tree::PutNode{kFile, node});
    std::string bytes;
    append_le(bytes, record(counter));
    LAYERFS_TRY(pwrite_full(data.fd(), as_bytes(bytes), data.offset + (counter - 1) * 8));
    // Where its one range is told, it may go through the log; where the file moved, more was written.
    if (counter != test::kSharedRecords + 1 && random_() % 8 != 0)
      set.written = {kFile, (counter - 1) * 8, bytes.size()};
    model_.apply(set);
    dumps_.push_back(model_.dump());
    return upper.apply(set);
  }

  /// Leaves in `path` what is on disk after a failure now; returns the tuning of a machine that opens it.
  DeltaTuning take_picture(const Shadow& shadow, const std::string& path, std::uint8_t machine) {
    stdfs::remove_all(path);
    shadow.picture(path, random_);
    DeltaTuning other;
    other.segment_size = kMinSegmentSize;
    other.flush_period = std::chrono::hours(1);
    other.boot_id = [machine] { return test::boot_of(machine); };
    return other;
  }

  /// Opens a picture on another machine and compares, fails once more while that puts it right, closes and
  /// opens it again.
  void check_picture(std::uint64_t acknowledged) {
    const std::string path = dir_ / "after";
    DeltaTuning other = take_picture(shadow_, path, 2);
    if (!stdfs::exists(path)) {
      ASSERT_EQ(acknowledged, 0U) << "the delta has gone";
      return;
    }
    Shadow second(path);
    other.sync = &second;
    test::Dump before;
    {
      const auto reader = open_delta_with(path, {.read_only = true}, other);
      if (!reader && may_be_refused_ && reader.error().kind == ErrorKind::kCorrupt) return;
      ASSERT_TRUE(reader) << reader.error().message();
      before = test::dump(**reader);
    }
    second.on_sync = [&] {
      if (random_() % 2 == 0 && !HasFatalFailure()) check_second_picture(second, before);
    };
    for (int life = 0; life < 2; ++life) {
      const auto upper = open_delta_with(path, {}, other);
      ASSERT_TRUE(upper) << upper.error().message();
      check_state(**upper, acknowledged, before);
      if (HasFatalFailure()) return;
    }
  }
  /// The power fails again: while a first failure is put right, or in the close after that.
  void check_second_picture(const Shadow& second, const test::Dump& expected) {
    const std::string path = dir_ / "after that";
    const DeltaTuning third = take_picture(second, path, 3);
    const auto upper = open_delta_with(path, {}, third);
    ASSERT_TRUE(upper) << upper.error().message();
    check_state(**upper, 0, expected);
  }
  void check_state(const tree::UpperLayer& upper, std::uint64_t acknowledged, const test::Dump& expected) {
    const std::uint64_t found = test::ChangeMaker::counter_of(upper, kBase);
    ASSERT_GE(found, acknowledged);
    ASSERT_LT(found, dumps_.size());
    ASSERT_EQ(test::dump(upper), dumps_[found]);
    ASSERT_EQ(expected, dumps_[found]);
    if (found == 0) return;
    const auto data = test::find_place(upper, kFile);
    ASSERT_TRUE(data) << data.error().message();
    std::string bytes(found * 8, '\0');
    ASSERT_EQ(*pread_full(data->fd(), std::as_writable_bytes(std::span(bytes)), data->offset), bytes.size());
    for (std::uint64_t k = 1; k <= found; ++k)
      ASSERT_EQ(load_le<std::uint64_t>(bytes.data() + (k - 1) * 8), record(k))
          << "record " << k << " of " << found;
  }
  /// Some steps and flushes, with pictures between and during them; says in `acknowledged` what must be kept.
  void live(tree::UpperLayer& upper, int steps, std::uint64_t& acknowledged) {
    for (int i = 0; i < steps; ++i) {
      ASSERT_TRUE(step(upper));
      const std::uint64_t before = acknowledged;
      // A picture may be taken in the middle of any flush.
      const bool during = random_() % 8 == 0;
      shadow_.on_sync = [&, during] {
        if (during && random_() % 2 == 0) check_picture(before);
      };
      const std::uint64_t what = random_() % 20;
      if (what < 2) {
        ASSERT_TRUE(upper.sync_node(what == 0 ? kFile : Ino{kBase}, tree::FsyncKind::kAll));
        acknowledged = dumps_.size() - 1;
      } else if (what == 2) {
        ASSERT_TRUE(upper.sync());
        acknowledged = dumps_.size() - 1;
      }
      shadow_.on_sync = nullptr;
      if (random_() % 40 == 0) check_picture(acknowledged);
      if (HasFatalFailure()) return;
    }
  }

  ScratchDir dir_;
  std::mt19937_64 random_;
  test::ChangeMaker maker_;
  test::Model model_;
  std::vector<test::Dump> dumps_{test::Dump{}};  // the state after each counter
  Shadow shadow_;
  DeltaTuning tuning_;
  bool may_be_refused_ = false;  // it was in use without flushing, and what says so may be on disk still
};

TEST_P(DeltaPowerTest, WhatIsLeftIsOneMomentWithAllThatWasAcknowledged) {
  std::uint64_t acknowledged = 0;
  for (int life = 0; life < 3; ++life) {
    shadow_.on_sync = [&] { check_picture(acknowledged); };
    auto upper = open_delta_with(dir_ / "delta", {}, tuning_);
    shadow_.on_sync = nullptr;
    ASSERT_TRUE(upper) << upper.error().message();
    for (int i = 0; i < 4 && !HasFatalFailure(); ++i) check_picture(acknowledged);
    live(**upper, 80, acknowledged);
    if (HasFatalFailure()) return;
    // A clean close is durable too.
    shadow_.on_sync = [&] {
      if (!HasFatalFailure()) check_picture(acknowledged);
    };
    upper->reset();
    shadow_.on_sync = nullptr;
    acknowledged = dumps_.size() - 1;
    for (int i = 0; i < 4 && !HasFatalFailure(); ++i) check_picture(acknowledged);
  }
}

// The process dies, another goes on with what the page cache has, and then the power fails: while that one
// opens the delta, or later. Some lives do not flush, some end by a clean close.
TEST_P(DeltaPowerTest, AlsoWhereTheProcessHadDiedBefore) {
  // The delta's own thread has nothing to do, so that a death is at one moment.
  tuning_.checkpoint_segments = 60;
  std::string path = dir_ / "delta";
  std::uint64_t acknowledged = 0;
  std::vector<std::unique_ptr<tree::UpperLayer>> dead;  // what they still do nobody sees
  for (int life = 0; life < 6; ++life) {
    SCOPED_TRACE(fmt::format("life {}", life));
    const bool is_volatile = random_() % 3 == 0;
    shadow_.on_sync = [&] {
      if (!HasFatalFailure()) check_picture(acknowledged);
    };
    if (is_volatile) may_be_refused_ = true;
    auto upper = open_delta_with(path, {.is_volatile = is_volatile}, tuning_);
    shadow_.on_sync = nullptr;
    ASSERT_TRUE(upper) << upper.error().message();
    if (HasFatalFailure()) return;
    ASSERT_EQ(test::dump(**upper), dumps_.back()) << "the death of a process loses nothing";
    if (is_volatile) {
      for (int i = 0; i < 20; ++i) ASSERT_TRUE(step(**upper));
    } else {
      may_be_refused_ = false;
      check_picture(acknowledged);
      live(**upper, 25, acknowledged);
    }
    if (HasFatalFailure()) return;
    if (!is_volatile && random_() % 4 == 0) {
      upper->reset();  // a clean close
      acknowledged = dumps_.size() - 1;
      check_picture(acknowledged);
      if (HasFatalFailure()) return;
      continue;
    }
    path = dir_ / fmt::format("delta {}", life);
    bool has_died = false;
    if (!is_volatile && random_() % 2 == 0) {
      // In a flush: whether its mark is on disk nobody knows.
      for (int i = 0; i < 10; ++i) ASSERT_TRUE(step(**upper));
      shadow_.on_sync = [&] {
        if (!has_died && random_() % 2 == 0) shadow_.move_to(path), has_died = true;
      };
      ASSERT_TRUE((*upper)->sync_node(kFile, tree::FsyncKind::kAll));
      shadow_.on_sync = nullptr;
      if (!has_died) acknowledged = dumps_.size() - 1;
    }
    if (!has_died) shadow_.move_to(path);
    shadow_.watch();
    dead.push_back(std::move(*upper));
  }
}

// What was erased since the last flush is there again after a power failure, also where the process that
// erased it died and another one has opened the delta since.
TEST_P(DeltaPowerTest, WhatWasErasedByAProcessThatDiedIsKeptUntilAFlush) {
  constexpr Ino kOwn{3000};
  constexpr Ino kShared{3001};
  constexpr Ino kNeighbour{3002};
  const auto put = [&](tree::UpperLayer& upper, Ino ino, tree::ContentKind content) -> Result<void> {
    tree::DataPlace place;
    if (content == tree::ContentKind::kShared) {
      LAYERFS_ASSIGN(place, upper.create_shared(ino));
    } else {
      LAYERFS_ASSIGN(place.file, upper.create_data(ino));
    }
    LAYERFS_TRY(pwrite_full(place.fd(), as_bytes(std::string_view("precious")), place.offset));
    tree::Node node;
    node.content = content;
    node.size = 8;
    node.data_reaches = true;
    return upper.apply({{tree::PutNode{ino, node}}});
  };
  const auto has_all = [](const tree::UpperLayer& upper) {
    for (const Ino ino : {kOwn, kShared, kNeighbour}) {
      const auto place = test::find_place(upper, ino);
      std::string bytes(8, '\0');
      if (!upper.find_node(ino) || !place) return false;
      const auto count = pread_full(place->fd(), std::as_writable_bytes(std::span(bytes)), place->offset);
      if (count.value_or(0) != 8 || bytes != "precious") return false;
    }
    return true;
  };
  auto first = open_delta_with(dir_ / "delta", {}, tuning_);
  ASSERT_TRUE(first) << first.error().message();
  ASSERT_TRUE(put(**first, kOwn, tree::ContentKind::kData));
  ASSERT_TRUE(put(**first, kShared, tree::ContentKind::kShared));
  ASSERT_TRUE(put(**first, kNeighbour, tree::ContentKind::kShared));
  ASSERT_TRUE((*first)->sync_node(kOwn, tree::FsyncKind::kAll));
  for (const Ino ino : {kOwn, kShared}) ASSERT_TRUE((*first)->apply({{tree::EraseNode{ino}}}));
  const std::string path = dir_ / "taken over";
  shadow_.move_to(path);
  shadow_.watch();
  const auto second = open_delta_with(path, {}, tuning_);
  ASSERT_TRUE(second) << second.error().message();
  EXPECT_FALSE((*second)->find_node(kOwn));
  EXPECT_FALSE((*second)->open_data(kOwn));
  for (int i = 0; i < 10; ++i) {
    const DeltaTuning other = take_picture(shadow_, dir_ / "after", 2);
    const auto after = open_delta_with(dir_ / "after", {.read_only = i % 2 == 0}, other);
    ASSERT_TRUE(after) << after.error().message();
    EXPECT_TRUE(has_all(**after));
  }
  ASSERT_TRUE((*second)->sync_node(kOwn, tree::FsyncKind::kAll));
  EXPECT_FALSE(stdfs::exists(path + "/data/2e/3000")) << "then it goes";
  const auto neighbour = (*second)->open_shared(kNeighbour);
  ASSERT_TRUE(neighbour);
  std::string bytes(tree::kSharedLimit, 'x');
  const std::uint64_t erased_place = neighbour->offset - tree::kSharedLimit;
  ASSERT_TRUE(pread_full(neighbour->fd(), std::as_writable_bytes(std::span(bytes)), erased_place));
  EXPECT_EQ(bytes, std::string(bytes.size(), '\0'));
  for (int i = 0; i < 4; ++i) {
    const DeltaTuning other = take_picture(shadow_, dir_ / "after", 2);
    const auto after = open_delta_with(dir_ / "after", {}, other);
    ASSERT_TRUE(after) << after.error().message();
    EXPECT_FALSE((*after)->find_node(kOwn));
  }
}

// Data files that are many are flushed in another way than few.
TEST_P(DeltaPowerTest, AFlushOfManyFilesKeepsThemAll) {
  constexpr std::uint64_t kFirst = 5000;
  const auto upper = open_delta_with(dir_ / "delta", {}, tuning_);
  ASSERT_TRUE(upper) << upper.error().message();
  std::uint64_t made = 0;
  for (const std::uint64_t count : {3, 60, 2, 40}) {
    for (const std::uint64_t end = made + count; made < end; ++made) {
      // Over many directories, in some of which there are several.
      const Ino ino{kFirst + made % 12 * 64 + made};
      tree::Node node;
      node.data_reaches = true;
      node.content = made % 5 == 0 ? tree::ContentKind::kShared : tree::ContentKind::kData;
      node.size = 8;
      tree::DataPlace place;
      if (node.content == tree::ContentKind::kShared) {
        auto shared = (*upper)->create_shared(ino);
        ASSERT_TRUE(shared);
        place = std::move(*shared);
      } else {
        auto file = (*upper)->create_data(ino);
        ASSERT_TRUE(file);
        place.file = std::move(*file);
      }
      std::string bytes;
      append_le(bytes, record(made + 1));
      ASSERT_TRUE(pwrite_full(place.fd(), as_bytes(bytes), place.offset));
      ASSERT_TRUE((*upper)->apply({{tree::PutNode{ino, node}}}));
    }
    ASSERT_TRUE((*upper)->sync_node(Ino{kFirst}, tree::FsyncKind::kAll));
    for (int i = 0; i < 3; ++i) {
      const DeltaTuning other = take_picture(shadow_, dir_ / "after", 2);
      const auto after = open_delta_with(dir_ / "after", {.read_only = i == 0}, other);
      ASSERT_TRUE(after) << after.error().message();
      for (std::uint64_t k = 0; k < made; ++k) {
        const auto place = test::find_place(**after, Ino{kFirst + k % 12 * 64 + k});
        ASSERT_TRUE(place) << k << ": " << place.error().message();
        std::string bytes(8, '\0');
        ASSERT_EQ(*pread_full(place->fd(), std::as_writable_bytes(std::span(bytes)), place->offset), 8U);
        ASSERT_EQ(load_le<std::uint64_t>(bytes.data()), record(k + 1)) << k << " of " << made;
      }
    }
  }
}

// Records are overwritten and added; a flush of data alone has to keep each as it was or newer, and the size.
TEST_P(DeltaPowerTest, AFlushOfDataAloneKeepsTheData) {
  constexpr Ino kTable{3000};
  auto upper = open_delta_with(dir_ / "delta", {}, tuning_);
  ASSERT_TRUE(upper) << upper.error().message();
  const auto file = (*upper)->create_data(kTable);
  ASSERT_TRUE(file);
  tree::Node node;
  node.content = tree::ContentKind::kData;
  node.data_reaches = true;
  std::vector<std::uint64_t> rows;
  std::vector<std::uint64_t> acknowledged;
  std::uint64_t flushes_of_data_alone = 0;
  std::size_t row = 0;
  for (std::uint64_t version = 1; version <= 600; ++version) {
    // From here on what was written is told mostly, so that the log has data of the file, and then has not.
    const bool tells = version > 300;
    // Often the one before, which the log may have as it was.
    if (!tells || random_() % 2 == 0) row = random_() % 8 == 0 ? rows.size() : random_() % (rows.size() + 1);
    rows.resize(std::max(rows.size(), row + 1));
    rows[row] = version;
    std::string bytes;
    append_le(bytes, version);
    ASSERT_TRUE(pwrite_full((*file)->get(), as_bytes(bytes), row * 8));
    node.size = rows.size() * 8;
    node.mtime = node.ctime = {static_cast<std::int64_t>(version), 0};
    ChangeSet set{{tree::PutNode{kTable, node}}};
    if (tells && random_() % 16 != 0) set.written = {kTable, row * 8, bytes.size()};
    ASSERT_TRUE((*upper)->apply(set));
    if (tells && random_() % 4 == 0) {
      ASSERT_TRUE((*upper)->sync_node(kTable, tree::FsyncKind::kAll));
      if (random_() % 2 == 0) {
        ASSERT_TRUE((*upper)->sync());
      }
      acknowledged = rows;
    } else if (random_() % 4 == 0) {
      bool took_log = false;
      shadow_.on_flush = [&](const std::string& path) { took_log |= path.ends_with("/redo.log"); };
      ASSERT_TRUE((*upper)->sync_node(kTable, tree::FsyncKind::kDataOnly));
      shadow_.on_flush = nullptr;
      if (!took_log) ++flushes_of_data_alone;
      acknowledged = rows;
    }
    if (random_() % 16 != 0) continue;
    const std::string path = dir_ / "after";
    const DeltaTuning other = take_picture(shadow_, path, 2);
    if (acknowledged.empty() && !stdfs::exists(path)) continue;
    const auto after = open_delta_with(path, {.read_only = true}, other);
    ASSERT_TRUE(after) << after.error().message();
    if (acknowledged.empty()) continue;
    const auto found = (*after)->find_node(kTable);
    ASSERT_TRUE(found);
    ASSERT_GE(found->size, acknowledged.size() * 8);
    const auto data = (*after)->open_data(kTable);
    ASSERT_TRUE(data) << data.error().message();
    std::string table(acknowledged.size() * 8, '\0');
    ASSERT_EQ(*pread_full((*data)->get(), std::as_writable_bytes(std::span(table)), 0), table.size());
    for (std::size_t k = 0; k < acknowledged.size(); ++k) {
      const auto value = load_le<std::uint64_t>(table.data() + k * 8);
      ASSERT_GE(value, acknowledged[k]) << "row " << k << " after version " << version;
      ASSERT_LE(value, rows[k]);
    }
  }
  EXPECT_GT(flushes_of_data_alone, 10U);
}

std::uint64_t seed_count() {
  const char* text = std::getenv("LAYERFS_POWER_SEEDS");
  return text ? std::strtoull(text, nullptr, 10) : 6;
}

INSTANTIATE_TEST_SUITE_P(Seeds, DeltaPowerTest, ::testing::Range<std::uint64_t>(1, 1 + seed_count()));

}  // namespace
}  // namespace layerfs::upper
