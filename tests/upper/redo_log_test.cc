// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/redo_log.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>

#include "fs/base/sys_file.h"
#include "fs/upper/crc32c.h"
#include "fs/upper/redo_scan.h"
#include "tests/base/scratch_dir.h"

namespace layerfs::upper {
namespace {

class RedoLogTest : public ::testing::Test {
 protected:
  RedoLogTest() {
    settings_.segment_size = kMinSegmentSize;
    settings_.max_segments = 6;
    settings_.sync = &sync_;
    settings_.boot_id.fill(7);
  }
  static Result<std::uint64_t> append(RedoLog& log, const std::string& body,
                                      AppendKind kind = AppendKind::kNormal) {
    return log.append(body, crc32c(body), kind);
  }
  std::string bytes() { return *read_file(path_); }
  /// Every record from `from` on, as the bytes of the file have it.
  std::map<std::uint64_t, std::string> records(std::uint64_t from, std::string_view file) {
    std::map<std::uint64_t, std::string> found;
    const auto scan = RedoScan::scan(file);
    EXPECT_TRUE(scan && *scan);
    EXPECT_TRUE((*scan)->for_each_from(from, [&](std::uint64_t seq, std::string_view body) -> Result<void> {
      found.emplace(seq, body);
      return {};
    }));
    return found;
  }

  ScratchDir dir_;
  const std::string path_ = dir_ / "redo.log";
  SyncOps sync_;
  RedoLog::Settings settings_;
};

TEST_F(RedoLogTest, RecordsAreInTheFileAtOnce) {
  auto log = RedoLog::start(path_, settings_, 42);
  ASSERT_TRUE(log);
  std::map<std::uint64_t, std::string> expected;
  for (std::uint64_t seq = 42; seq < 100; ++seq) {
    const std::string body(seq, 'b');
    ASSERT_EQ(append(**log, body), seq);
    expected.emplace(seq, body);
  }
  EXPECT_EQ(records(42, bytes()), expected);
  EXPECT_EQ((*log)->last_seq(), 99U);
}

TEST_F(RedoLogTest, GrowsUntilItsLimitThenRefusesThenTakesReleasedSegments) {
  auto log = RedoLog::start(path_, settings_, 1);
  ASSERT_TRUE(log);
  const std::string body(1000, 'x');
  std::uint64_t last = 0;
  while (const auto seq = append(**log, body)) last = *seq;
  // One segment is kept for changes that remove something.
  EXPECT_EQ((*log)->used_segments(), 5U);
  EXPECT_EQ(append(**log, body).error().code, ENOSPC);
  ASSERT_TRUE(append(**log, body, AppendKind::kFreeing));
  EXPECT_EQ(append(**log, body).error().code, ENOSPC) << "the kept segment is not for this";
  while (append(**log, body, AppendKind::kFreeing)) ++last;
  ++last;
  // The end of each segment takes marks.
  ASSERT_TRUE(append(**log, "mark", AppendKind::kMark));
  ++last;
  EXPECT_EQ(records(1, bytes()).size(), last);
  (*log)->release(last / 2);
  ASSERT_TRUE(append(**log, body));
  const auto after = records(last / 2 + 1, bytes());
  EXPECT_EQ(after.rbegin()->first, last + 1);
  EXPECT_EQ(after.size(), last + 1 - last / 2);
}

// Each attempt at a flush that fails seals; the background may not have made segments ready since.
TEST_F(RedoLogTest, GrowsByTwoWhereTheKeptSegmentIsInUseToo) {
  auto log = RedoLog::start(path_, settings_, 1);
  ASSERT_TRUE(log);
  ASSERT_TRUE(append(**log, "first of two"));
  (*log)->seal();
  ASSERT_TRUE(append(**log, "in the kept one", AppendKind::kFreeing));
  (*log)->seal();
  ASSERT_TRUE(append(**log, "in the third, the fourth is kept"));
  EXPECT_EQ((*log)->used_segments(), 3U);
  EXPECT_EQ((*RedoScan::scan(bytes()))->segment_count(), 4U);
}

TEST_F(RedoLogTest, ANewSegmentTakesThePlaceOfTheKeptOne) {
  settings_.max_segments = 3;
  auto log = RedoLog::start(path_, settings_, 1);
  ASSERT_TRUE(log);
  ASSERT_TRUE(append(**log, "first of two"));
  (*log)->seal();
  ASSERT_TRUE(append(**log, "in the kept one", AppendKind::kFreeing));
  ASSERT_TRUE((*log)->add_segment());
  ASSERT_TRUE(append(**log, "beside it"));
  EXPECT_EQ((*log)->used_segments(), 2U);
}

TEST_F(RedoLogTest, WalkGivesTheRecordsBetween) {
  auto log = RedoLog::start(path_, settings_, 1);
  ASSERT_TRUE(log);
  std::mt19937 random(1);
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(append(**log, std::string(1 + random() % 300, 'w')));
  std::uint64_t next = 20;
  ASSERT_TRUE((*log)->walk(20, 180, [&](std::uint64_t seq, std::string_view) -> Result<void> {
    EXPECT_EQ(seq, next++);
    return {};
  }));
  EXPECT_EQ(next, 181U);
}

TEST_F(RedoLogTest, ATornRecordIsDroppedWhereverItIsTorn) {
  auto log = RedoLog::start(path_, settings_, 1);
  ASSERT_TRUE(log);
  ASSERT_TRUE(append(**log, "first"));
  ASSERT_TRUE(append(**log, "the second, which is torn"));
  const std::string whole = bytes();
  const std::size_t begin = kLogHeaderSize + kSegmentHeaderSize + record_size(5);
  for (std::size_t at = begin; at < begin + kRecordHeaderSize + 25; ++at) {
    std::string torn = whole;
    torn[at] = static_cast<char>(torn[at] ^ 0x40);
    const auto found = records(1, torn);
    EXPECT_EQ(found, (std::map<std::uint64_t, std::string>{{1, "first"}})) << at;
  }
}

TEST_F(RedoLogTest, GoesOnAfterAnEndWithoutClose) {
  std::map<std::uint64_t, std::string> expected;
  std::uint64_t last = 0;
  for (int life = 0; life < 20; ++life) {
    const std::string before = life == 0 ? std::string() : bytes();
    Result<std::unique_ptr<RedoLog>> log = errno_error(EIO);
    if (life == 0) {
      log = RedoLog::start(path_, settings_, 1);
    } else {
      const auto scan = RedoScan::scan(before);
      ASSERT_TRUE(scan && *scan);
      log = RedoLog::resume(path_, settings_, **scan, last, last > 30 ? last - 30 : 0);
    }
    ASSERT_TRUE(log) << log.error().message();
    for (int i = 0; i < 25; ++i) {
      const std::string body = std::to_string(life) + std::string(200, 'r');
      const auto seq = append(**log, body);
      ASSERT_TRUE(seq);
      ASSERT_EQ(*seq, last + 1);
      last = *seq;
      expected.emplace(last, body);
    }
    if (last > 40) expected.erase(expected.begin(), expected.lower_bound(last - 40));
    EXPECT_EQ(records(expected.begin()->first, bytes()), expected) << life;
  }
}

TEST_F(RedoLogTest, AHoleInTheMiddleIsSeen) {
  auto log = RedoLog::start(path_, settings_, 1);
  ASSERT_TRUE(log);
  while ((*log)->used_segments() < 4) ASSERT_TRUE(append(**log, std::string(500, 'h')));
  std::string damaged = bytes();
  damaged[kLogHeaderSize + kMinSegmentSize + 200] ^= 1;  // in the second segment
  const auto scan = RedoScan::scan(damaged);
  ASSERT_TRUE(scan && *scan);
  const auto last =
      (*scan)->for_each_from(1, [](std::uint64_t, std::string_view) -> Result<void> { return {}; });
  ASSERT_TRUE(last);
  EXPECT_TRUE((*scan)->has_records_beyond(*last));
  EXPECT_FALSE((*scan)->has_records_beyond((*log)->last_seq()));
}

TEST_F(RedoLogTest, NoHeaderIsNoLogAndAWrongOneIsCorrupt) {
  EXPECT_FALSE(RedoScan::scan("")->has_value());
  EXPECT_FALSE(RedoScan::scan(std::string(5000, '\0'))->has_value());
  ASSERT_TRUE(RedoLog::start(path_, settings_, 1));
  const std::string good = bytes();
  for (std::size_t at = 0; at < 52; ++at) {
    std::string bad = good;
    bad[at] ^= 1;
    EXPECT_FALSE(RedoScan::scan(bad)) << at;
  }
  std::string other = good;
  other[8] = 5;
  EXPECT_EQ(RedoScan::scan(other).error().kind, ErrorKind::kUnsupported);
  EXPECT_FALSE(RedoScan::scan(good.substr(0, 100)));
}

TEST_F(RedoLogTest, ARecordLongerThanASegmentIsRefused) {
  auto log = RedoLog::start(path_, settings_, 1);
  ASSERT_TRUE(log);
  EXPECT_EQ(append(**log, std::string((*log)->max_body() + 1, 'l')).error().code, E2BIG);
  ASSERT_TRUE(append(**log, std::string((*log)->max_body(), 'l')));
  ASSERT_TRUE(append(**log, std::string((*log)->max_body(), 'm')));
  EXPECT_EQ(records(1, bytes()).size(), 2U);
}

}  // namespace
}  // namespace layerfs::upper
