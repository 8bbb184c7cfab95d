// SPDX-License-Identifier: Apache-2.0
// Damage is told: whatever of a delta's files is flipped, cut or gone, it opens with all that was
// acknowledged, or is refused by the name of what is damaged. What a death of the process or a power failure
// leaves is no damage.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "fs/base/bytes.h"
#include "fs/base/sys_file.h"
#include "fs/upper/checkpoint_file.h"
#include "fs/upper/crc32c.h"
#include "fs/upper/delta_open.h"
#include "fs/upper/redo_log.h"
#include "tests/base/scratch_dir.h"
#include "tests/upper/delta_model.h"

namespace layerfs::upper {
namespace {

namespace stdfs = std::filesystem;
using test::write_whole;
using tree::ChangeSet;
using tree::Ino;

constexpr Ino kOwnFile{700};     // has a data file of its own
constexpr Ino kRangedFile{701};  // ranges over an object
constexpr Ino kSharedFile{702};  // a place in a shared file

class DeltaDamageTest : public test::DeltaFixture {
 protected:
  DeltaDamageTest() : DeltaFixture(41) {
    tuning_.boot_id = [this] { return test::boot_of(boot_); };
  }
  static tree::Node file_node(tree::ContentKind content, std::uint64_t size) {
    tree::Node node;
    node.content = content;
    node.size = size;
    node.data_reaches = true;
    return node;
  }
  /// One file of each kind.
  void write_files(tree::UpperLayer& upper) {
    const auto own = upper.create_data(kOwnFile);
    const auto ranged = upper.create_data(kRangedFile);
    const auto shared = upper.create_shared(kSharedFile);
    ASSERT_TRUE(own && ranged && shared);
    ASSERT_TRUE(pwrite_full((*own)->get(), as_bytes(std::string(50'000, 'o')), 0));
    ASSERT_TRUE(pwrite_full((*ranged)->get(), as_bytes(std::string(100, 'r')), 70'000));
    ASSERT_TRUE(pwrite_full(shared->fd(), as_bytes(std::string(300, 's')), shared->offset));
    put(upper, {{tree::PutNode{kOwnFile, file_node(tree::ContentKind::kData, 50'000)}}});
    tree::Node over = file_node(tree::ContentKind::kData, 1 << 20);
    over.object.bytes[0] = 1;
    over.base_size = 1 << 20;
    put(upper, {{tree::PutNode{kRangedFile, over}, tree::AddExtent{kRangedFile, 70'000, 100}}});
    put(upper, {{tree::PutNode{kSharedFile, file_node(tree::ContentKind::kShared, 300)}}});
  }
  /// The delta as it would be found had the process died now.
  void copy_to(const std::string& path) {
    stdfs::remove_all(path);
    stdfs::copy(path_, path, stdfs::copy_options::recursive);
  }
  /// What both ways of opening say of `path`: "" where they open with what `expected` has.
  std::string opened(const std::string& path, const test::Dump& expected) {
    for (const bool read_only : {true, false}) {
      const auto upper = open_delta_with(path, {.read_only = read_only}, tuning_);
      if (!upper && upper.error().kind == ErrorKind::kCorrupt) return "refused: " + upper.error().message();
      if (!upper) return "another error: " + upper.error().message();
      if (test::dump(**upper) != expected) return "opened with something else";
    }
    return "";
  }
  std::string refusal(const std::string& path) {
    for (const bool read_only : {true, false}) {
      const auto upper = open_delta_with(path, {.read_only = read_only}, tuning_);
      if (upper) return read_only ? "opened for reading" : "opened for writing";
      if (upper.error().kind != ErrorKind::kCorrupt) return "another error: " + upper.error().message();
    }
    return "";
  }

  const std::string copy_ = dir_ / "copy";
  std::uint8_t boot_ = 1;
};

/// What a reader of these bytes makes of them after the death of the process: the last record, or why they
/// are refused.
struct Reading {
  std::uint64_t last = 0;
  std::string refused;
};
Reading read_log(std::string_view bytes, std::uint64_t from = 1) {
  const auto scan = RedoScan::scan(bytes);
  if (!scan) return {0, scan.error().message()};
  if (!*scan) return {0, "no log"};
  const auto last =
      (*scan)->for_each_from(from, [](std::uint64_t, std::string_view) -> Result<void> { return {}; });
  if (!last) return {0, last.error().message()};
  const char* damage = (*scan)->find_damage(*last);
  return {*last, damage == nullptr ? "" : damage};
}

class LogDamageTest : public ::testing::Test {
 protected:
  LogDamageTest() {
    settings_.segment_size = kMinSegmentSize;
    settings_.sync = &sync_;
    settings_.boot_id.fill(7);
    auto log = RedoLog::start(path_, settings_, 1);
    EXPECT_TRUE(log);
    if (log) log_ = std::move(*log);
  }
  void append(const std::string& body) {
    const auto seq = log_->append(body, crc32c(body), AppendKind::kNormal);
    ASSERT_TRUE(seq);
    last_ = *seq;
  }
  std::string bytes() { return *read_file(path_); }

  ScratchDir dir_;
  const std::string path_ = dir_ / "redo.log";
  SyncOps sync_;
  RedoLog::Settings settings_;
  std::unique_ptr<RedoLog> log_;
  std::uint64_t last_ = 0;
};

TEST_F(LogDamageTest, EachByteFlippedIsToldOrLosesNothing) {
  // Into a third segment, whose records are few.
  for (int i = 0; log_->used_segments() < 3; ++i)
    append(std::string(1 + i * 37 % 900, static_cast<char>('a' + i % 26)));
  for (int i = 0; i < 5; ++i) append(std::string(20 + i, 'z'));
  std::string log = bytes();
  ASSERT_EQ(read_log(log).last, last_);
  ASSERT_EQ(read_log(log).refused, "");
  int told = 0;
  for (std::size_t at = 0; at < kLogHeaderSize + 3 * kMinSegmentSize; ++at) {
    if (at > 100 && at < kLogHeaderSize) continue;  // nothing is there
    // Of the two that are full not all, for the time that it takes.
    const std::size_t in_segment = (at - kLogHeaderSize) % kMinSegmentSize;
    if (at > kLogHeaderSize && at < kLogHeaderSize + 2 * kMinSegmentSize && in_segment > 1000 && at % 7 != 0)
      continue;
    const char before = log[at];
    log[at] = static_cast<char>(before ^ (1 << at % 8));
    const Reading reading = read_log(log);
    if (!reading.refused.empty())
      ++told;
    else
      ASSERT_EQ(reading.last, last_) << "byte " << at;
    log[at] = before;
  }
  EXPECT_GT(told, 4000);
}

TEST_F(LogDamageTest, ACutAnywhereIsTold) {
  while (log_->used_segments() < 3) append(std::string(500, 'c'));
  const std::string log = bytes();
  for (std::size_t length = 0; length < log.size(); length += length < 5000 ? 1 : 977) {
    const Reading reading = read_log(std::string_view(log).substr(0, length));
    ASSERT_NE(reading.refused, "") << length;
  }
  EXPECT_EQ(read_log(log).refused, "");
}

TEST_F(LogDamageTest, AnUnfinishedRecordIsTheEnd) {
  append("first");
  append("second");
  const std::string log = bytes();
  const std::size_t second = kLogHeaderSize + kSegmentHeaderSize + record_size(5);
  constexpr std::size_t kSize = kRecordHeaderSize + 6;
  // The order in which append() stores: no number, the body, the first half of the header, the number. What
  // was there before is zeros or of an earlier use.
  std::vector<std::size_t> order;
  for (std::size_t i = kRecordHeaderSize; i < kSize; ++i) order.push_back(i);
  for (std::size_t i = 0; i < 8; ++i) order.push_back(i);
  for (const char before : {'\0', 'x', '\xff'}) {
    for (std::size_t kept = 0; kept <= order.size(); ++kept) {
      std::string torn = log;
      for (std::size_t i = 0; i < kSize; ++i) torn[second + i] = i >= 8 && i < 16 ? '\0' : before;
      for (std::size_t i = 0; i < kept; ++i) torn[second + order[i]] = log[second + order[i]];
      const Reading reading = read_log(torn);
      ASSERT_EQ(reading.refused, "") << kept;
      ASSERT_EQ(reading.last, 1U) << kept;
    }
  }
  EXPECT_EQ(read_log(log).last, 2U);
}

// A process that dies in the middle of a body: over old bytes the number is zero by then.
TEST_F(LogDamageTest, ARecordHasNoNumberWhileItIsWritten) {
  append("first");
  const std::size_t second = kLogHeaderSize + kSegmentHeaderSize + record_size(5);
  const Fd file = *open_file(path_, O_RDWR);
  ASSERT_TRUE(pwrite_full(file.get(), as_bytes(std::string(200, 'o')), second));
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  void* pages = mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(pages, MAP_FAILED);
  ASSERT_EQ(mprotect(static_cast<char*>(pages) + page, page, PROT_NONE), 0);
  const std::string_view body(static_cast<const char*>(pages) + page - 64, 128);
  const pid_t child = fork();
  if (child == 0) {
    const struct rlimit no_core{};
    setrlimit(RLIMIT_CORE, &no_core);
    signal(SIGSEGV, SIG_DFL);
    _exit(log_->append(body, 0, AppendKind::kNormal) ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  munmap(pages, 2 * page);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(bytes().substr(second + 8, 8), std::string(8, '\0'));
  EXPECT_EQ(read_log(bytes()).refused, "");
  EXPECT_EQ(read_log(bytes()).last, 1U);
}

// Whoever writes bytes that the log then carries could otherwise make a log that is refused.
TEST_F(LogDamageTest, WhatARecordCarriesIsNeverTakenForOne) {
  std::string forged;
  for (std::uint64_t number = 1; number < 40; ++number) {
    const std::string body = "forged " + std::to_string(number);
    const auto header =
        encode_record_header(crc32c(body), static_cast<std::uint32_t>(body.size()), number + 1);
    forged.append(header.data(), header.size());
    forged += body;
    forged.resize((forged.size() + 7) / 8 * 8, '\0');
  }
  // Those of another log, as anybody may have one.
  const std::string other_path = dir_ / "other.log";
  auto other = RedoLog::start(other_path, settings_, 1);
  ASSERT_TRUE(other);
  for (int i = 0; i < 50; ++i) ASSERT_TRUE((*other)->append("abc", crc32c("abc"), AppendKind::kNormal));
  forged += read_file(other_path)->substr(kLogHeaderSize, 2000 / 8 * 8);
  for (std::size_t shift = 0; shift < 8; ++shift) append(std::string(shift, '-') + forged);
  // In a segment that is used again the record that carried them is half overwritten.
  for (int life = 0; life < 12; ++life) {
    while (log_->used_segments() < 3) append(forged);
    log_->release(last_);
    append("short");
    const Reading reading = read_log(bytes(), last_);
    ASSERT_EQ(reading.refused, "");
    ASSERT_EQ(reading.last, last_);
  }
}

TEST_F(LogDamageTest, ReleaseGivesBackASegmentWithItsLastRecordAndNotBefore) {
  while (log_->used_segments() < 3) append(std::string(700, 'r'));
  const std::uint64_t first_end = log_->oldest_end();
  ASSERT_GT(first_end, 2U);
  log_->release(first_end - 1);
  EXPECT_EQ(log_->used_segments(), 3U);
  std::uint64_t seen = 0;
  ASSERT_TRUE(log_->walk(first_end, first_end, [&](std::uint64_t seq, std::string_view) -> Result<void> {
    seen = seq;
    return {};
  }));
  EXPECT_EQ(seen, first_end);
  log_->release(first_end);
  EXPECT_EQ(log_->used_segments(), 2U);
}

TEST_F(DeltaDamageTest, ALogThatIsGoneIsTold) {
  const std::vector<std::pair<const char*, std::function<void(const std::string&)>>> damages = {
      {"gone", [](const std::string& log) { stdfs::remove(log); }},
      {"empty", [](const std::string& log) { stdfs::resize_file(log, 0); }},
      {"zeros", [](const std::string& log) { write_whole(log, std::string(stdfs::file_size(log), '\0')); }},
      {"cut", [](const std::string& log) { stdfs::resize_file(log, kLogHeaderSize + kMinSegmentSize); }},
      {"without segments", [](const std::string& log) { stdfs::resize_file(log, kLogHeaderSize); }},
  };
  auto upper = open();
  const auto try_all = [&](const std::string& when) {
    for (const auto& [name, damage] : damages)
      for (const bool other_boot : {false, true}) {
        if (other_boot && (name == std::string("cut") || name == std::string("without segments"))) continue;
        SCOPED_TRACE(fmt::format("{}, {}, boot {}", when, name, other_boot ? "another" : "the same"));
        copy_to(copy_);
        damage(copy_ + "/redo.log");
        boot_ = other_boot ? 2 : 1;
        EXPECT_EQ(refusal(copy_), "");
        boot_ = 1;
      }
  };
  change(*upper, 20);
  try_all("changed");
  write_files(*upper);
  try_all("with data files");
  ASSERT_TRUE(upper->sync());
  try_all("with a checkpoint");
  upper.reset();
  for (const char* how : {"gone", "empty"}) {
    SCOPED_TRACE(std::string("closed, ") + how);
    copy_to(copy_);
    damages[how == std::string("gone") ? 0 : 1].second(copy_ + "/redo.log");
    EXPECT_EQ(refusal(copy_), "");
  }
  EXPECT_EQ(opened(path_, model_.dump()), "");
}

TEST_F(DeltaDamageTest, WhereThereNeverWasALogThereIsNoDamage) {
  ASSERT_TRUE(make_dir(path_, 0700));
  write_whole(path_ + "/lock", "");
  write_whole(path_ + "/checkpoint", "");
  EXPECT_EQ(opened(path_, {}), "");
}

/// Where the record with this number begins in the log's bytes.
std::size_t place_of_record(std::string_view log, std::uint64_t wanted) {
  const auto scan = RedoScan::scan(log);
  std::size_t found = 0;
  static_cast<void>((*scan)->for_each_from(1, [&](std::uint64_t seq, std::string_view body) -> Result<void> {
    if (seq == wanted) found = static_cast<std::size_t>(body.data() - log.data()) - kRecordHeaderSize;
    return {};
  }));
  return found;
}

// Records that two marks speak of were flushed before the second was made.
TEST_F(DeltaDamageTest, AfterAPowerFailureTooWhatWasFlushedIsNotMissing) {
  auto upper = open();
  change(*upper, 3);
  ASSERT_TRUE(upper->sync_node(Ino{500}, tree::FsyncKind::kAll));
  const test::Dump flushed = model_.dump();
  change(*upper, 2);
  ASSERT_TRUE(upper->sync_node(Ino{500}, tree::FsyncKind::kAll));
  const test::Dump flushed_later = model_.dump();
  change(*upper, 2);
  const std::string log = *read_file(path_ + "/redo.log");
  boot_ = 2;
  const auto flip = [&](std::uint64_t record) {
    copy_to(copy_);
    std::string damaged = log;
    damaged[place_of_record(log, record) + kRecordHeaderSize] ^= 1;
    write_whole(copy_ + "/redo.log", damaged);
  };
  // 1 2 3, a mark, 5 6, a mark, 8 9.
  for (const std::uint64_t record : {1, 2, 3}) {
    flip(record);
    EXPECT_EQ(refusal(copy_), "") << record;
  }
  for (const std::uint64_t record : {5, 6, 7}) {
    flip(record);
    EXPECT_EQ(opened(copy_, flushed), "")
        << record << ": the flush of the second mark may have been under way";
  }
  for (const std::uint64_t record : {8, 9}) {
    flip(record);
    EXPECT_EQ(opened(copy_, flushed_later), "") << record;
  }
}

TEST_F(DeltaDamageTest, DataFilesThatAreNotAsTheyWereLeftAreTold) {
  {
    auto upper = open();
    write_files(*upper);
    change(*upper, 5);
    copy_to(dir_ / "died");
  }
  EXPECT_EQ(opened(path_, model_.dump()), "");
  const std::vector<std::pair<const char*, std::function<void(const std::string&)>>> damages = {
      {"gone", [](const std::string& file) { stdfs::remove(file); }},
      {"empty", [](const std::string& file) { stdfs::resize_file(file, 0); }},
      {"cut", [](const std::string& file) { stdfs::resize_file(file, 100); }},
      {"a directory",
       [](const std::string& file) {
         stdfs::remove(file);
         stdfs::create_directory(file);
       }},
      {"a fifo",
       [](const std::string& file) {
         stdfs::remove(file);
         ASSERT_EQ(mkfifo(file.c_str(), 0600), 0);
       }},
      {"a link",
       [](const std::string& file) {
         stdfs::rename(file, file + ".elsewhere");
         stdfs::create_symlink(file + ".elsewhere", file);
       }},
  };
  stdfs::rename(path_, dir_ / "closed");
  for (const char* state : {"closed", "died"})
    for (const char* file : {"0a/700", "0a/701", "0a/s10"})
      for (const auto& [name, damage] : damages) {
        SCOPED_TRACE(fmt::format("{}, {}: {}", state, file, name));
        stdfs::remove_all(copy_);
        stdfs::copy(dir_ / state, copy_, stdfs::copy_options::recursive);
        ASSERT_TRUE(stdfs::exists(copy_ + "/data/" + file));
        damage(copy_ + "/data/" + file);
        EXPECT_EQ(refusal(copy_), "");
      }
}

// Whoever can write to the directory of an upper can't lead another, who works on it, elsewhere.
TEST_F(DeltaDamageTest, NothingIsOpenedThroughALinkNorWaitsForAFifo) {
  {
    auto upper = open();
    write_files(*upper);
  }
  tuning_.checkpoint_slack = 0;  // so that it is written whole
  const std::string victim_file = dir_ / "victim";
  const std::string victim_directory = dir_ / "victims";
  const std::string precious(100, 'p');
  for (const char* name : {"lock", "checkpoint", "checkpoint.new", "redo.log", "redo.log.new", "data",
                           "data/0a", "data/0a/700", "data/0a/s10", "data/0a/800", "data/0b", "data/0b/s11"})
    for (const bool has_log : {true, false})
      for (const bool is_fifo : {false, true}) {
        SCOPED_TRACE(fmt::format("{}{}{}", name, has_log ? "" : ", no log", is_fifo ? ", a fifo" : ""));
        stdfs::remove_all(copy_);
        if (has_log)
          copy_to(copy_);
        else
          stdfs::create_directories(copy_ + "/data/0a");
        stdfs::create_directories(copy_ + "/data/0b");
        if (!has_log && std::string(name).find('/') == std::string::npos) stdfs::remove_all(copy_ + "/data");
        stdfs::remove_all(victim_directory);
        stdfs::create_directories(victim_directory);
        for (const char* inside : {"700", "800", "s10", "s11", "0a"})
          write_whole(victim_directory + "/" + inside, precious);
        write_whole(victim_file, precious);
        const std::string place = copy_ + "/" + name;
        const bool is_directory =
            name == std::string("data") || name == std::string("data/0a") || name == std::string("data/0b");
        stdfs::remove_all(place);
        if (is_fifo)
          ASSERT_EQ(mkfifo(place.c_str(), 0600), 0);
        else
          stdfs::create_symlink(is_directory ? victim_directory : victim_file, place);
        for (int life = 0; life < 2; ++life) {
          auto upper = open_delta_with(copy_, {}, tuning_);
          if (!upper) break;
          for (const std::uint64_t ino : {700, 720, 800}) {
            const auto own = (*upper)->create_data(Ino{ino});
            if (own) static_cast<void>(pwrite_full((*own)->get(), as_bytes("changed"), 0));
            const auto shared = (*upper)->create_shared(Ino{ino + 5});
            if (shared) static_cast<void>(pwrite_full(shared->fd(), as_bytes("changed"), shared->offset));
            static_cast<void>(
                (*upper)->apply({{tree::PutNode{Ino{ino}, file_node(tree::ContentKind::kData, 0)}}}));
            static_cast<void>((*upper)->sync());
            static_cast<void>((*upper)->apply({{tree::EraseNode{Ino{ino}}}}));
            static_cast<void>((*upper)->sync());
          }
        }
        EXPECT_EQ(*read_file(victim_file), precious);
        for (const char* inside : {"700", "800", "s10", "s11", "0a"}) {
          const auto bytes = read_file(victim_directory + "/" + inside);
          EXPECT_TRUE(bytes && *bytes == precious) << inside;
        }
        EXPECT_EQ(std::distance(stdfs::directory_iterator(victim_directory), stdfs::directory_iterator()), 5);
      }
}

// A file that was cut after the last mark is longer in the state that is left than on the disk.
TEST_F(DeltaDamageTest, APowerFailureMayLeaveAFileCut) {
  auto upper = open();
  write_files(*upper);
  ASSERT_TRUE(upper->sync());
  const test::Dump flushed = model_.dump();
  copy_to(copy_);
  boot_ = 2;
  stdfs::resize_file(copy_ + "/data/0a/700", 123);
  stdfs::resize_file(copy_ + "/data/0a/701", 123);
  EXPECT_EQ(opened(copy_, flushed), "");
  EXPECT_EQ(stdfs::file_size(copy_ + "/data/0a/700"), 50'000U);
  EXPECT_EQ(stdfs::file_size(copy_ + "/data/0a/701"), 70'100U);
  boot_ = 3;
  EXPECT_EQ(opened(copy_, flushed), "") << "it is as it should be from then on";
}

TEST_F(DeltaDamageTest, EachByteOfTheCheckpointFlippedIsToldOrSaysTheSame) {
  {
    auto upper = open();
    change(*upper, 6);
    ASSERT_TRUE(upper->sync());
    change(*upper, 6);
    ASSERT_TRUE(upper->sync());
  }
  const test::Dump expected = model_.dump();
  const std::string checkpoint = *read_file(path_ + "/checkpoint");
  const auto file = open_file(path_ + "/checkpoint", O_RDWR);
  ASSERT_TRUE(file);
  std::size_t told = 0;
  for (std::size_t at = 0; at < checkpoint.size(); ++at)
    for (const char bit : {char{1}, static_cast<char>(0x80)}) {
      const std::string flipped(1, static_cast<char>(checkpoint[at] ^ bit));
      ASSERT_TRUE(pwrite_full(file->get(), as_bytes(flipped), at));
      const auto upper = open_delta_with(path_, {.read_only = true}, tuning_);
      if (upper) {
        ASSERT_EQ(test::dump(**upper), expected) << "byte " << at << " of " << checkpoint.size();
      } else {
        ASSERT_TRUE(upper.error().kind == ErrorKind::kCorrupt ||
                    upper.error().kind == ErrorKind::kUnsupported)
            << upper.error().message();
        ++told;
      }
      ASSERT_TRUE(pwrite_full(file->get(), as_bytes(std::string_view(checkpoint).substr(at, 1)), at));
    }
  EXPECT_EQ(told, 2 * checkpoint.size()) << "no byte of it is without meaning";
  EXPECT_EQ(opened(path_, expected), "");
}

/// Gives what a checkpoint says.
std::map<std::string, std::string> records_of(CheckpointFile& file) {
  struct Collector final : RecordSink {
    Result<void> put(std::string_view key, std::string_view value) override {
      records[std::string(key)] = std::string(value);
      return {};
    }
    Result<void> erase(std::string_view key) override {
      records.erase(std::string(key));
      return {};
    }
    Result<void> erase_prefix(std::string_view) override { return {}; }
    std::map<std::string, std::string> records;
  } collector;
  EXPECT_TRUE(file.load(collector));
  return collector.records;
}

// A batch of two blocks whose first did not reach the disk: the second, which commits, must not follow on the
// next batch, whose block has that number.
TEST(CheckpointTail, OfABatchThatWasNotCommittedNeverComesBack) {
  const ScratchDir dir;
  const std::string path = dir / "checkpoint";
  SyncOps sync;
  const std::string longest(300U << 10, 'l');  // fills a block
  const auto put_large = [&](RecordSink& sink) { return sink.put("Nlargelarge", longest); };
  std::uint64_t end = 0;
  {
    auto file = CheckpointFile::open(path, CheckpointMode::kDurable, sync);
    ASSERT_TRUE(file);
    ASSERT_TRUE((*file)->append([](RecordSink& sink) { return sink.put("Nfirst", "1"); }));
    end = (*file)->size();
    ASSERT_TRUE((*file)->append([&](RecordSink& sink) -> Result<void> {
      LAYERFS_TRY(put_large(sink));
      return sink.put("Nnever", "2");
    }));
  }
  const auto raw = open_file(path, O_RDWR);
  ASSERT_TRUE(raw);
  ASSERT_TRUE(pwrite_full(raw->get(), as_bytes(std::string(100, '\0')), end + 1000));
  auto file = CheckpointFile::open(path, CheckpointMode::kDurable, sync);
  ASSERT_TRUE(file);
  EXPECT_EQ((*file)->size(), end);
  EXPECT_EQ(records_of(**file).size(), 1U);
  ASSERT_TRUE((*file)->append(put_large));
  const auto again = CheckpointFile::open(path, CheckpointMode::kReadOnly, sync);
  ASSERT_TRUE(again);
  const auto records = records_of(**again);
  EXPECT_EQ(records.size(), 2U);
  EXPECT_FALSE(records.contains("Nnever"));
}

}  // namespace
}  // namespace layerfs::upper
