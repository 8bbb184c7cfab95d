// SPDX-License-Identifier: Apache-2.0
// Bytes: copy-up, ranges, holes, truncation, fallocate, lseek, copy_file_range; one sentence each.
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "fs/base/sys_file.h"
#include "tests/union/union_fixture.h"

namespace layerfs::unionfs {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;

class Files : public UnionTest {
 protected:
  Files() {
    for (std::size_t i = 0; i < big_.size(); ++i) big_[i] = static_cast<char>('a' + i / 4096 % 26);
    small_ino_ = lower_file(tree::kRootIno, "small", "0123456789");
    big_ino_ = lower_file(tree::kRootIno, "big", big_);
    Node node;
    node.content = tree::ContentKind::kInline;
    node.size = 6;
    lower_->add_node(tree::kRootIno, "inline", node, "inline", {});
    mount();
  }
  tree::ContentKind content_of(const std::string& path) { return node(path).content; }
  /// Bytes on disk of a data file.
  std::uint64_t stored(const std::string& path) {
    auto data = upper_->open_data(ino(path));
    return data ? static_cast<std::uint64_t>(stat_fd((*data)->get())->st_blocks) * 512 : 0;
  }
  int fallocate(const std::string& path, int mode, std::uint64_t offset, std::uint64_t length) {
    return code(fs().fallocate(ino(path), mode, offset, length, {}));
  }
  std::uint64_t seek(const std::string& path, std::uint64_t offset, int whence) {
    auto found = fs().lseek(ino(path), offset, whence);
    return found ? *found : ~std::uint64_t{0};
  }
  std::string big_ = std::string(4 * kMiB, '\0');
  Ino small_ino_, big_ino_;
};

TEST_F(Files, ChangesOfAttributesAndNamesCopyNoData) {
  ASSERT_EQ(set("big", {.mode = 0600}), 0);
  ASSERT_EQ(set("big", {.uid = Uid{1}}), 0);
  ASSERT_EQ(set("big", {.mtime = Time{5, 0}}), 0);
  ASSERT_EQ(rename("big", "b"), 0);
  ASSERT_EQ(link("b", "c"), 0);
  EXPECT_EQ(content_of("b"), tree::ContentKind::kObject);
  EXPECT_EQ(code(upper_->open_data(big_ino_)), ENOENT);
  EXPECT_EQ(blobs_->opens(), 0U);
  EXPECT_EQ(read("c"), big_);
}

TEST_F(Files, ASmallFileIsCopiedUpWholeAndALargeOneByRange) {
  ASSERT_EQ(write("small", 3, "XY"), 0);
  EXPECT_EQ(read("small"), "012XY56789");
  EXPECT_TRUE(node("small").object.is_zero());
  ASSERT_EQ(write("big", big_.size(), "!"), 0);
  EXPECT_EQ(read("big"), big_ + "!");
  EXPECT_EQ(upper_->extents(big_ino_), (std::vector<tree::Extent>{{big_.size(), 1}}));
  EXPECT_LT(stored("big"), 64 * 1024U);
}

TEST_F(Files, RangesAreReadTogetherWithTheirBase) {
  ASSERT_EQ(write("big", 100, "one"), 0);
  ASSERT_EQ(write("big", 2 * kMiB, std::string(5000, '2')), 0);
  ASSERT_EQ(write("big", 5 * kMiB, "three"), 0);  // beyond the base, with a hole between
  std::string expected = big_;
  expected.replace(100, 3, "one");
  expected.replace(2 * kMiB, 5000, std::string(5000, '2'));
  expected.resize(5 * kMiB);
  expected += "three";
  EXPECT_EQ(read("big"), expected);
  mount();
  EXPECT_EQ(read("big"), expected);
}

TEST_F(Files, AFileThatOutgrowsItsPlaceGetsADataFileWithAllItHad) {
  const auto limit = static_cast<std::size_t>(tree::kSharedLimit);
  ASSERT_EQ(make_file("a"), 0);
  ASSERT_EQ(make_file("b"), 0);
  ASSERT_EQ(write("a", 0, "aaaa"), 0);
  ASSERT_EQ(write("b", 0, "bbbb"), 0);
  EXPECT_EQ(content_of("a"), tree::ContentKind::kShared);
  ASSERT_EQ(write("a", limit - 4, "tail"), 0);
  EXPECT_EQ(content_of("a"), tree::ContentKind::kShared);
  std::string expected = "aaaa" + std::string(limit - 8, '\0') + "tail";
  EXPECT_EQ(read("a"), expected);
  upper_->fail_apply = EIO;
  EXPECT_EQ(write("a", limit, "more"), EIO);
  upper_->fail_apply = 0;
  EXPECT_EQ(read("a"), expected);
  ASSERT_EQ(write("a", limit, "more"), 0);
  expected += "more";
  EXPECT_EQ(content_of("a"), tree::ContentKind::kData);
  EXPECT_EQ(read("a"), expected);
  EXPECT_EQ(read("b"), "bbbb");
  ASSERT_EQ(set("b", {.size = limit + 1}), 0);
  EXPECT_EQ(content_of("b"), tree::ContentKind::kData);
  EXPECT_EQ(read("b"), "bbbb" + std::string(limit - 3, '\0'));
}

TEST_F(Files, WhatAFailedChangeLeftInAPlaceIsNeverSeen) {
  ASSERT_EQ(make_file("a"), 0);
  upper_->fail_apply = EIO;
  EXPECT_EQ(write("a", 0, "never"), EIO);
  EXPECT_EQ(write("small", 10, "never"), EIO);
  upper_->fail_apply = 0;
  ASSERT_EQ(write("a", 20, "x"), 0);
  EXPECT_EQ(read("a"), std::string(20, '\0') + "x");
  // Bytes written beyond a size that was never recorded.
  upper_->fail_apply = EIO;
  EXPECT_EQ(write("a", 21, "never"), EIO);
  upper_->fail_apply = 0;
  ASSERT_EQ(write("a", 30, "y"), 0);
  EXPECT_EQ(read("a"), std::string(20, '\0') + "x" + std::string(9, '\0') + "y");
  ASSERT_EQ(set("a", {.size = 10}), 0);
  ASSERT_EQ(set("a", {.size = 31}), 0);
  EXPECT_EQ(read("a"), std::string(31, '\0'));
  ASSERT_EQ(set("small", {.size = 20}), 0);
  EXPECT_EQ(read("small"), "0123456789" + std::string(10, '\0'));
}

// Its copy leaves zeros out, and what is there already would show in their place.
TEST_F(Files, WhatAFailedChangeLeftInADataFileIsNotTakenForZeros) {
  std::string content = std::string(20'000, 'a') + std::string(20'000, '\0') + std::string(10'000, 'b');
  lower_file(tree::kRootIno, "zeros", content);
  upper_->fail_apply = EIO;
  EXPECT_EQ(write("zeros", 0, std::string(content.size(), '!')), EIO);
  upper_->fail_apply = 0;
  ASSERT_EQ(write("zeros", 0, "x"), 0);
  content[0] = 'x';
  EXPECT_EQ(read("zeros"), content);
}

TEST_F(Files, AFileThatIsWrittenOverWholeIsNotCopiedFirst) {
  ASSERT_EQ(write("small", 0, "abcdefghijklm"), 0);
  EXPECT_EQ(blobs_->opens(), 0U);
  EXPECT_EQ(read("small"), "abcdefghijklm");
}

TEST_F(Files, TruncationToNothingNeedsNoDataFile) {
  ASSERT_EQ(set("big", {.size = 0}), 0);
  EXPECT_EQ(content_of("big"), tree::ContentKind::kNone);
  EXPECT_EQ(read("big"), "");
  EXPECT_EQ(code(upper_->open_data(big_ino_)), ENOENT);
  ASSERT_EQ(set("big", {.size = 5}), 0);
  EXPECT_EQ(read("big"), std::string(5, '\0'));
  ASSERT_EQ(write("big", 7, "x"), 0);
  EXPECT_EQ(read("big"), std::string(7, '\0') + "x");
}

TEST_F(Files, WhatATruncationCutOffIsZerosWhenTheFileGrowsAgain) {
  for (const char* path : {"small", "big", "inline"}) {
    ASSERT_EQ(set(path, {.size = 4}), 0);
    ASSERT_EQ(set(path, {.size = 8}), 0);
    EXPECT_EQ(read(path), read(path).substr(0, 4) + std::string(4, '\0')) << path;
  }
  ASSERT_EQ(write("big", 6, "zz"), 0);
  ASSERT_EQ(set("big", {.size = 7}), 0);
  ASSERT_EQ(set("big", {.size = 9}), 0);
  EXPECT_EQ(read("big"), std::string("aaaa\0\0z\0\0", 9));
}

TEST_F(Files, TruncationOfARangedFileCutsBaseAndRanges) {
  ASSERT_EQ(write("big", 3 * kMiB, "x"), 0);
  ASSERT_EQ(set("big", {.size = 2 * kMiB}), 0);
  EXPECT_TRUE(upper_->extents(big_ino_).empty());
  ASSERT_EQ(set("big", {.size = 4 * kMiB}), 0);
  EXPECT_EQ(read("big"), big_.substr(0, 2 * kMiB) + std::string(2 * kMiB, '\0'));
  ASSERT_EQ(set("big", {.size = 0}), 0);
  EXPECT_TRUE(node("big").object.is_zero());
}

TEST_F(Files, AWriteWhoseSizeWasNeverRecordedLeavesNoBytesBehind) {
  ASSERT_EQ(write("small", 0, "abc"), 0);
  upper_->fail_apply = ENOSPC;
  EXPECT_EQ(write("small", 10, std::string(100, 'g')), ENOSPC);
  upper_->fail_apply = 0;
  EXPECT_EQ(node("small").size, 10U);
  ASSERT_EQ(write("small", 50, "x"), 0);
  EXPECT_EQ(read("small"), "abc3456789" + std::string(40, '\0') + "x");
  upper_->fail_apply = ENOSPC;
  EXPECT_EQ(write("small", 51, std::string(100, 'g')), ENOSPC);
  upper_->fail_apply = 0;
  ASSERT_EQ(set("small", {.size = 60}), 0);
  EXPECT_EQ(read("small").substr(51), std::string(9, '\0'));
}

TEST_F(Files, ACopyUpThatFailsLeavesTheLowerBytesAndCanBeTriedAgain) {
  upper_->fail_apply = EIO;
  EXPECT_EQ(write("small", 5, std::string(100, 'g')), EIO);
  upper_->fail_apply = 0;
  EXPECT_EQ(read("small"), "0123456789");
  ASSERT_EQ(set("small", {.size = 20}), 0);
  EXPECT_EQ(read("small"), "0123456789" + std::string(10, '\0'));
  upper_->fail_create = ENOSPC;
  EXPECT_EQ(write("big", 5, "x"), ENOSPC);
  upper_->fail_create = 0;
  EXPECT_EQ(read("big"), big_);
}

TEST_F(Files, ASparseFileStaysSparseThroughCopyUp) {
  std::string bytes(48 * 1024, '\0');
  bytes.replace(40 * 1024, 3, "end");
  mount();
  Ino sparse = lower_file(tree::kRootIno, "sparse", bytes);
  ASSERT_EQ(write("sparse", 0, "x"), 0);
  bytes[0] = 'x';
  EXPECT_EQ(read("sparse"), bytes);
  EXPECT_LE(stored("sparse"), 3 * 4096U);
  EXPECT_EQ(ino("sparse"), sparse);
}

TEST_F(Files, SeekFindsDataAndHolesAcrossObjectRangesAndEnd) {
  EXPECT_EQ(seek("big", 100, SEEK_DATA), 100U);
  EXPECT_EQ(seek("big", 0, SEEK_HOLE), big_.size());
  EXPECT_EQ(code(fs().lseek(big_ino_, big_.size(), SEEK_DATA)), ENXIO);
  EXPECT_EQ(code(fs().lseek(big_ino_, 0, 77)), EINVAL);
  ASSERT_EQ(write("big", 6 * kMiB, "x"), 0);
  EXPECT_EQ(seek("big", 0, SEEK_HOLE), 4 * kMiB);
  EXPECT_EQ(seek("big", 4 * kMiB, SEEK_DATA), 6 * kMiB);
  ASSERT_EQ(fallocate("big", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, kMiB, kMiB), 0);
  EXPECT_EQ(seek("big", 0, SEEK_HOLE), kMiB);
  EXPECT_EQ(seek("big", kMiB, SEEK_DATA), 2 * kMiB);
  ASSERT_EQ(make_file("hole"), 0);
  ASSERT_EQ(set("hole", {.size = 100}), 0);
  EXPECT_EQ(seek("hole", 0, SEEK_HOLE), 0U);
  EXPECT_EQ(code(fs().lseek(ino("hole"), 0, SEEK_DATA)), ENXIO);
  EXPECT_EQ(seek("inline", 2, SEEK_DATA), 2U);
  EXPECT_EQ(seek("inline", 2, SEEK_HOLE), 6U);
}

// A data file is as long as the file, and so are its holes: ext4's answers are those of its blocks.
TEST_F(Files, HolesEndWhereBlocksDo) {
  ASSERT_EQ(make_file("sparse"), 0);
  ASSERT_EQ(set("sparse", {.size = 100'000}), 0);
  ASSERT_EQ(write("sparse", 10'000, "x"), 0);
  EXPECT_EQ(seek("sparse", 0, SEEK_DATA), 8192U);
  EXPECT_EQ(seek("sparse", 9000, SEEK_HOLE), 12'288U);
  EXPECT_EQ(code(fs().lseek(ino("sparse"), 12'288, SEEK_DATA)), ENXIO);
  ASSERT_EQ(make_file("end"), 0);
  ASSERT_EQ(set("end", {.size = 50'001}), 0);
  ASSERT_EQ(write("end", 50'000, "x"), 0);
  EXPECT_EQ(seek("end", 0, SEEK_DATA), 49'152U);
  EXPECT_EQ(seek("end", 50'000, SEEK_HOLE), 50'001U);
}

/// The length of its data file; of one in a place 0.
std::uint64_t data_length(tree::UpperLayer& upper, Ino file) {
  auto data = upper.open_data(file);
  return data ? static_cast<std::uint64_t>(stat_fd((*data)->get())->st_size) : 0;
}

// What tells a data file that was damaged from one that is as it was left.
TEST_F(Files, DataFilesReachAsFarAsTheirNodesSay) {
  const std::string kOwn(40'000, 'o');
  const auto expect_reach = [&](const std::string& path, std::uint64_t length) {
    SCOPED_TRACE(path);
    EXPECT_TRUE(node(path).data_reaches);
    EXPECT_GE(data_length(*upper_, ino(path)), length);
  };
  for (const char* name : {"own", "grown", "allocated", "zeroed", "copied", "empty"}) {
    ASSERT_EQ(make_file(name), 0);
    ASSERT_EQ(write(name, 0, kOwn), 0);
    expect_reach(name, kOwn.size());
  }
  ASSERT_EQ(set("grown", {.size = 90'000}), 0);
  expect_reach("grown", 90'000);
  ASSERT_EQ(fallocate("allocated", 0, 50'000, 20'000), 0);
  expect_reach("allocated", 70'000);
  ASSERT_EQ(fallocate("zeroed", FALLOC_FL_ZERO_RANGE, 30'000, 60'000), 0);
  expect_reach("zeroed", 90'000);
  ASSERT_EQ(fs().copy_file_range(ino("grown"), 50'000, ino("copied"), 40'000, 30'000, {}).value_or(0),
            30'000U);
  expect_reach("copied", 70'000);
  ASSERT_EQ(set("empty", {.size = 0}), 0);
  ASSERT_EQ(set("empty", {.size = 60'000}), 0);
  expect_reach("empty", 60'000);
  // Over an object: to the end of the last extent.
  ASSERT_EQ(fallocate("big", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, kMiB, kMiB), 0);
  expect_reach("big", 2 * kMiB);
  ASSERT_EQ(fs().copy_file_range(ino("grown"), 50'000, big_ino_, 3 * kMiB, 30'000, {}).value_or(0), 30'000U);
  expect_reach("big", 3 * kMiB + 30'000);
  ASSERT_EQ(write("small", 0, "x"), 0);
  EXPECT_TRUE(node("small").data_reaches);
  // Copied up whole, with zeros at its end.
  std::string zeros = "text" + std::string(50'000, '\0');
  auto upper = std::make_shared<FaultyUpper>(upper::make_memory_upper());
  upper_.swap(upper);
  lower_file(tree::kRootIno, "zeros", zeros);
  mount();
  ASSERT_EQ(write("zeros", 0, "T"), 0);
  expect_reach("zeros", zeros.size());
}

// truncate(2): EFBIG where the last byte could not be written.
TEST_F(Files, NoSizeIsTakenThatCannotBeWritten) {
  constexpr std::uint64_t kLimit = 64 * kMiB;
  ASSERT_EQ(make_file("f"), 0);
  // A process whose files may not be that large stands for a file system below that has no such files.
  struct rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old_handler = ::signal(SIGXFSZ, SIG_IGN);
  struct rlimit limit = before;
  limit.rlim_cur = kLimit;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  const int huge = set("f", {.size = std::uint64_t{1} << 45});
  const int over = set("big", {.size = std::uint64_t{1} << 45});
  const int fits = set("f", {.size = kLimit});
  const int last_byte = write("f", kLimit - 1, "x");
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, old_handler);
  EXPECT_EQ(huge, EFBIG);
  EXPECT_EQ(over, EFBIG);
  EXPECT_EQ(fits, 0);
  EXPECT_EQ(last_byte, 0);
  EXPECT_EQ(node("f").size, kLimit);
  EXPECT_EQ(node("big").size, big_.size());
  EXPECT_EQ(read("big"), big_);
}

// What is written over whole is not copied first; where less of it can be written the old bytes stay.
TEST_F(Files, AShortWriteThatWasToCoverAllLeavesTheOldBytes) {
  struct rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old_handler = ::signal(SIGXFSZ, SIG_IGN);
  const std::string bytes(5000, 'n');
  auto place = upper_->create_shared(small_ino_);
  ASSERT_TRUE(place);
  struct rlimit limit = before;
  limit.rlim_cur = place->offset + 5;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  const auto count = fs().write(small_ino_, 0, as_bytes(bytes), {}, {});
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, old_handler);
  EXPECT_EQ(code(count), ENOSPC);
  EXPECT_EQ(read("small"), "0123456789");
  mount();
  EXPECT_EQ(read("small"), "0123456789");
}

TEST_F(Files, FallocateAllocatesExtendsZeroesAndPunches) {
  ASSERT_EQ(fallocate("small", 0, 8, 8), 0);
  EXPECT_EQ(read("small"), "0123456789" + std::string(6, '\0'));
  ASSERT_EQ(fallocate("small", FALLOC_FL_KEEP_SIZE, 100, 1000), 0);
  EXPECT_EQ(node("small").size, 16U);
  ASSERT_EQ(fallocate("small", FALLOC_FL_ZERO_RANGE, 2, 3), 0);
  EXPECT_EQ(read("small").substr(0, 6), std::string("01\0\0\0"
                                                    "5",
                                                    6));
  ASSERT_EQ(fallocate("small", FALLOC_FL_ZERO_RANGE, 12, 8), 0);
  EXPECT_EQ(node("small").size, 20U);
  ASSERT_EQ(fallocate("small", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1000), 0);
  EXPECT_EQ(read("small"), std::string(20, '\0'));
}

TEST_F(Files, FallocateRefusesWhatItCannotDo) {
  EXPECT_EQ(fallocate("small", FALLOC_FL_COLLAPSE_RANGE, 0, 4096), EOPNOTSUPP);
  EXPECT_EQ(fallocate("small", FALLOC_FL_INSERT_RANGE, 0, 4096), EOPNOTSUPP);
  EXPECT_EQ(fallocate("small", FALLOC_FL_PUNCH_HOLE, 0, 4096), EOPNOTSUPP);
  EXPECT_EQ(fallocate("small", 0, 0, 0), EINVAL);
  EXPECT_EQ(fallocate("small", 0, INT64_MAX, 10), EFBIG);
  EXPECT_EQ(read("small"), "0123456789");
}

TEST_F(Files, BytesAreOnlyInRegularFilesAndOnlySoFar) {
  std::byte one{};
  EXPECT_EQ(code(fs().read(tree::kRootIno, 0, {&one, 1})), EISDIR);
  EXPECT_EQ(write("", 0, "x"), EISDIR);
  EXPECT_EQ(set("", {.size = 0}), EISDIR);
  ASSERT_EQ(forgotten(fs().mknod(tree::kRootIno, "p", S_IFIFO | 0600, 0, {})), 0);
  EXPECT_EQ(set("p", {.size = 0}), EINVAL);
  EXPECT_EQ(write("small", INT64_MAX, "xy"), EFBIG);
  EXPECT_EQ(set("small", {.size = std::uint64_t{1} << 63}), EFBIG);
}

TEST_F(Files, CopyOfAWholeObjectNamesItAndMovesNoByte) {
  ASSERT_EQ(make_file("copy"), 0);
  auto copied = fs().copy_file_range(big_ino_, 0, ino("copy"), 0, 100 * kMiB, {});
  EXPECT_EQ(copied.value_or(0), big_.size());
  EXPECT_EQ(content_of("copy"), tree::ContentKind::kObject);
  EXPECT_EQ(code(upper_->open_data(ino("copy"))), ENOENT);
  ASSERT_EQ(write("copy", 0, "X"), 0);
  EXPECT_EQ(read("big"), big_);
  EXPECT_EQ(read("copy"), "X" + big_.substr(1));
}

TEST_F(Files, CopyOfAWholeShorterFileLeavesTheTail) {
  // The target has an object as well; then a data file.
  EXPECT_EQ(fs().copy_file_range(small_ino_, 0, big_ino_, 0, 10, {}).value_or(0), 10U);
  EXPECT_EQ(read("big"), "0123456789" + big_.substr(10));
  ASSERT_EQ(make_file("longer"), 0);
  ASSERT_EQ(write("longer", 0, std::string(50, 'l')), 0);
  EXPECT_EQ(fs().copy_file_range(small_ino_, 0, ino("longer"), 0, 10, {}).value_or(0), 10U);
  EXPECT_EQ(read("longer"), "0123456789" + std::string(40, 'l'));
  ASSERT_EQ(set("small", {.size = 20}), 0);
  ASSERT_EQ(make_file("hole"), 0);
  ASSERT_EQ(set("hole", {.size = 5}), 0);
  EXPECT_EQ(fs().copy_file_range(ino("hole"), 0, small_ino_, 0, 5, {}).value_or(0), 5U);
  EXPECT_EQ(read("small"), std::string(5, '\0') + "56789" + std::string(10, '\0'));
}

// The answer is a number of 32 bits: of a whole object too, of which none are copied.
TEST_F(Files, CopyOfMoreThanFourGigabytesIsNotAnsweredWithMoreThanFits) {
  constexpr std::uint64_t kHuge = 5ULL << 30;
  Node node;
  node.mode = 0644;
  node.content = tree::ContentKind::kNone;
  node.size = kHuge;
  const Ino huge = lower_->add_node(tree::kRootIno, "huge", node, {}, {});
  node.content = tree::ContentKind::kObject;
  node.object = blobs_->put("stands for five gigabytes").value();
  const Ino object = lower_->add_node(tree::kRootIno, "object", node, {}, {});
  mount();
  for (const Ino from : {huge, object}) {
    const std::string copy = "copy of " + std::to_string(to_number(from));
    ASSERT_EQ(make_file(copy), 0);
    const auto count = fs().copy_file_range(from, 0, ino(copy), 0, kHuge, {});
    EXPECT_LE(count.value_or(0), UINT32_MAX);
    EXPECT_EQ(this->node(copy).size, count.value_or(0)) << "not even where an object would be named";
  }
}

// The kernel drops its pages of what it is told was copied, and of nothing else.
TEST_F(Files, ACopyThatFailsHalfWayAnswersWhatIsCopied) {
  ASSERT_EQ(make_file("from"), 0);
  ASSERT_EQ(write("from", 0, std::string(200'000, 'f')), 0);
  ASSERT_EQ(make_file("to"), 0);
  ASSERT_EQ(write("to", 0, std::string(200'000, 't')), 0);
  struct rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old_handler = ::signal(SIGXFSZ, SIG_IGN);
  struct rlimit limit = before;
  limit.rlim_cur = 100'000;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  const auto count = fs().copy_file_range(ino("from"), 0, ino("to"), 0, 200'000, {});
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, old_handler);
  const std::string bytes = read("to");
  EXPECT_EQ(bytes.find('t'), count.value_or(0)) << "no byte beyond the answer has changed";
  EXPECT_GT(count.value_or(0), 0U);
}

TEST_F(Files, CopyOfARangeTakesBytesHolesAndBothEnds) {
  ASSERT_EQ(write("big", 10, "range"), 0);
  ASSERT_EQ(write("small", 20, "tail"), 0);  // a hole from 10 to 20
  EXPECT_EQ(fs().copy_file_range(small_ino_, 5, big_ino_, 100, 1000, {}).value_or(0), 19U);
  EXPECT_EQ(read("big").substr(100, 19), "56789" + std::string(10, '\0') + "tail");
  EXPECT_EQ(fs().copy_file_range(big_ino_, 8, small_ino_, 0, 9, {}).value_or(0), 9U);
  EXPECT_EQ(read("small").substr(0, 9), "aarangeaa");
  EXPECT_EQ(fs().copy_file_range(ino("inline"), 1, small_ino_, 2, 3, {}).value_or(0), 3U);
  EXPECT_EQ(read("small").substr(0, 6), "aanlig");
  EXPECT_EQ(fs().copy_file_range(small_ino_, 1000, big_ino_, 0, 10, {}).value_or(9), 0U);
  EXPECT_EQ(code(fs().copy_file_range(big_ino_, 0, big_ino_, 5, 10, {})), EINVAL);
  EXPECT_EQ(fs().copy_file_range(big_ino_, 0, big_ino_, 10, 10, {}).value_or(0), 10U);
}

TEST_F(Files, AMissingObjectIsAnErrorAndNotZeros) {
  Node node;
  node.content = tree::ContentKind::kObject;
  node.size = 5;
  node.object.bytes[0] = 1;
  lower_->add_node(tree::kRootIno, "lost", node, {}, {});
  node.object = blobs_->put("abc").value();  // shorter than the node says
  lower_->add_node(tree::kRootIno, "short", node, {}, {});
  std::byte buffer[5];
  EXPECT_EQ(code(fs().read(ino("lost"), 0, buffer)), ENOENT);
  EXPECT_EQ(code(fs().read(ino("short"), 0, buffer)), EIO);
  EXPECT_EQ(write("short", 1, "x"), EIO);
}

TEST_F(Files, EveryDescriptorMayBeDroppedAndIsOpenedAgain) {
  // Far more files than the cache holds descriptors of.
  for (int i = 0; i < 50; ++i) {
    ASSERT_EQ(make_file("f" + std::to_string(i)), 0);
    ASSERT_EQ(write("f" + std::to_string(i), 0, std::to_string(i)), 0);
  }
  mount();
  upper_->fail_open = EMFILE;
  EXPECT_EQ(read("f0"), "0");
  EXPECT_EQ(upper_->opens, 2);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(read("f" + std::to_string(i)), std::to_string(i));
}

TEST_F(Files, ReadersAndWritersOfOneFileSeeWholeWrites) {
  ASSERT_EQ(write("big", 0, std::string(4096, '0')), 0);
  std::atomic<bool> done{false};
  std::atomic<int> torn{0};
  std::thread reader([&] {
    std::string bytes(4096, '#');
    while (!done) {
      if (!fs().read(big_ino_, 0, std::as_writable_bytes(std::span(bytes)))) ++torn;
      if (bytes != std::string(4096, bytes[0])) ++torn;
    }
  });
  for (int i = 0; i < 300; ++i)
    ASSERT_EQ(write_ino(big_ino_, 0, std::string(4096, static_cast<char>('0' + i % 60))), 0);
  done = true;
  reader.join();
  EXPECT_EQ(torn, 0);
}

}  // namespace
}  // namespace layerfs::unionfs
