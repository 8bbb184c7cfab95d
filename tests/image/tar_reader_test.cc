// SPDX-License-Identifier: Apache-2.0
#include "fs/image/tar_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/image/tar_reading.h"
#include "tests/support/tar_builder.h"

namespace layerfs::image {
namespace {

using testing::ElementsAre;
using testing::Pair;

/// Reads in one piece, and in odd pieces that cut every field once; all must say the same, byte for byte.
Reading read_everywhere(const std::string& tar, TarEnd end = TarEnd::kMarked) {
  Reading whole = read_tar(tar, tar.size() + 1, end);
  EXPECT_EQ(whole.error, "");
  EXPECT_TRUE(whole.stream == tar) << "raw bytes and contents are not the archive";
  for (std::size_t piece : {1U, 3U, 511U, 512U, 513U}) {
    Reading again = read_tar(tar, piece, end);
    EXPECT_EQ(again.error, "") << "in pieces of " << piece;
    EXPECT_TRUE(again.stream == tar) << "in pieces of " << piece;
    EXPECT_EQ(again.members.size(), whole.members.size());
    for (std::size_t i = 0; i < std::min(again.members.size(), whole.members.size()); ++i) {
      EXPECT_EQ(again.members[i].member.name, whole.members[i].member.name);
      EXPECT_EQ(again.members[i].content, whole.members[i].content);
    }
  }
  return whole;
}

TEST(TarReader, UstarEntriesOfEveryType) {
  TarBuilder tar;
  tar.add({.name = "dir/", .type = '5', .mode = 01777, .uid = 3, .gid = 4, .mtime = 99});
  tar.add({.name = "dir/file", .content = "hello", .mode = 04755, .uid = 1000, .gid = 100});
  tar.add({.name = "dir/link", .type = '2', .link = "../target"});
  tar.add({.name = "dir/hard", .type = '1', .link = "dir/file"});
  tar.add({.name = "dev/null", .type = '3', .device_major = 1, .device_minor = 3});
  tar.add({.name = "dev/big", .type = '4', .device_major = 4095, .device_minor = 1048575});
  tar.add({.name = "fifo", .type = '6', .mode = 0600});
  Reading reading = read_everywhere(tar.finish());
  ASSERT_EQ(reading.members.size(), 7U);
  const auto& dir = reading.members[0].member;
  EXPECT_EQ(dir.type, TarType::kDirectory);
  EXPECT_EQ(dir.mode, 01777);
  EXPECT_EQ(dir.uid, 3U);
  EXPECT_EQ(dir.gid, 4U);
  EXPECT_EQ(dir.mtime, (tree::Time{99, 0}));
  EXPECT_EQ(reading.members[1].content, "hello");
  EXPECT_EQ(reading.members[1].member.mode, 04755);
  EXPECT_EQ(reading.members[2].member.type, TarType::kSymlink);
  EXPECT_EQ(reading.members[2].member.link, "../target");
  EXPECT_EQ(reading.members[3].member.type, TarType::kHardLink);
  EXPECT_EQ(reading.members[4].member.type, TarType::kCharDevice);
  EXPECT_EQ(reading.members[4].member.device_minor, 3U);
  EXPECT_EQ(reading.members[5].member.device_major, 4095U);
  EXPECT_EQ(reading.members[5].member.device_minor, 1048575U);
  EXPECT_EQ(reading.members[6].member.type, TarType::kFifo);
}

TEST(TarReader, UstarPrefixStandsBeforeTheName) {
  std::string tar = TarBuilder().add({.name = "name", .prefix = "some/long/prefix"}).finish();
  EXPECT_EQ(read_everywhere(tar).only().member.name, "some/long/prefix/name");
}

TEST(TarReader, NameAndPrefixMayFillTheirFields) {
  std::string name(100, 'n');
  std::string prefix(155, 'p');
  std::string tar = TarBuilder().add({.name = name, .prefix = prefix}).finish();
  EXPECT_EQ(read_everywhere(tar).only().member.name, prefix + "/" + name);
}

TEST(TarReader, V7HasNoMagicAndDirectoriesByTheirSlash) {
  TarBuilder tar;
  tar.add({.name = "old/", .type = '\0', .dialect = TarDialect::kV7});
  tar.add({.name = "old/file", .type = '\0', .content = "x", .dialect = TarDialect::kV7});
  Reading reading = read_everywhere(tar.finish());
  ASSERT_EQ(reading.members.size(), 2U);
  EXPECT_EQ(reading.members[0].member.type, TarType::kDirectory);
  EXPECT_EQ(reading.members[1].member.type, TarType::kRegular);
  EXPECT_EQ(reading.members[1].content, "x");
}

TEST(TarReader, StarHasAShorterPrefixAndTimes) {
  std::string tar = TarBuilder()
                        .add({.name = "n",
                              .dialect = TarDialect::kStar,
                              .prefix = "p",
                              .edit =
                                  [](TarHeader& header) {
                                    put_header(header, kStarAtimeAt, number_field(5));
                                    put_header(header, kStarCtimeAt, number_field(6));
                                  }})
                        .finish();
  const TarMember member = read_everywhere(tar).only().member;
  EXPECT_EQ(member.name, "p/n");
  EXPECT_EQ(member.atime, (tree::Time{5, 0}));
  EXPECT_EQ(member.ctime, (tree::Time{6, 0}));
}

TEST(TarReader, GnuLongNamesAndLinks) {
  std::string name(1000, 'n');
  std::string link(2000, 'l');
  TarBuilder tar;
  tar.gnu_long('K', link).gnu_long('L', name);
  tar.add(
      {.name = name.substr(0, 100), .type = '2', .link = link.substr(0, 100), .dialect = TarDialect::kGnu});
  tar.file("next", "");
  Reading reading = read_everywhere(tar.finish());
  ASSERT_EQ(reading.members.size(), 2U);
  EXPECT_EQ(reading.members[0].member.name, name);
  EXPECT_EQ(reading.members[0].member.link, link);
  EXPECT_EQ(reading.members[1].member.name, "next") << "a long name is of one entry only";
}

TEST(TarReader, GnuVolumeLabelIsNoEntry) {
  std::string tar = TarBuilder().add({.name = "label", .type = 'V'}).file("f", "x").finish();
  EXPECT_EQ(read_everywhere(tar).only().member.name, "f");
}

TEST(TarReader, GnuHeaderTimes) {
  std::string tar =
      TarBuilder()
          .add({.name = "f",
                .dialect = TarDialect::kGnu,
                .edit = [](TarHeader& header) { put_header(header, kGnuAtimeAt, number_field(77)); }})
          .finish();
  EXPECT_EQ(read_everywhere(tar).only().member.atime, (tree::Time{77, 0}));
  EXPECT_EQ(read_everywhere(tar).only().member.ctime, std::nullopt);
}

TEST(TarReader, Base256NumbersMayBeLargeOrNegative) {
  std::string tar =
      TarBuilder()
          .add({.name = "f", .uid = 0xfffffffe, .gid = 3000000, .mtime = -5, .dialect = TarDialect::kGnu})
          .finish();
  const TarMember member = read_everywhere(tar).only().member;
  EXPECT_EQ(member.uid, 0xfffffffeU);
  EXPECT_EQ(member.gid, 3000000U);
  EXPECT_EQ(member.mtime, (tree::Time{-5, 0}));
}

TEST(TarReader, PaxOverridesTheHeader) {
  std::string path = "d/" + std::string(300, 'x') + "\xff\xfe";
  TarBuilder tar;
  tar.pax({{"path", path},
           {"linkpath", "far/away"},
           {"uid", "4000000000"},
           {"gid", "70000"},
           {"mtime", "1234567890.123456789"},
           {"atime", "-1.5"},
           {"ctime", "17"},
           {"hdrcharset", "BINARY"},
           {"comment", "no matter"}});
  tar.add({.name = "short", .type = '2', .link = "near"});
  const TarMember member = read_everywhere(tar.finish()).only().member;
  EXPECT_EQ(member.name, path);
  EXPECT_EQ(member.link, "far/away");
  EXPECT_EQ(member.uid, 4000000000U);
  EXPECT_EQ(member.gid, 70000U);
  EXPECT_EQ(member.mtime, (tree::Time{1234567890, 123456789}));
  EXPECT_EQ(member.atime, (tree::Time{-2, 500000000}));
  EXPECT_EQ(member.ctime, (tree::Time{17, 0}));
}

TEST(TarReader, PaxSizeCountsInsteadOfTheHeaders) {
  TarBuilder tar;
  tar.pax({{"size", "700"}});
  tar.add({.name = "f", .edit = [](TarHeader& header) { put_tar_number(header.size, 0); }});
  tar.raw(std::string(700, 'c')).pad().file("next", "n");
  Reading reading = read_everywhere(tar.finish());
  ASSERT_EQ(reading.members.size(), 2U);
  EXPECT_EQ(reading.members[0].content, std::string(700, 'c'));
  EXPECT_EQ(reading.members[1].content, "n");
}

TEST(TarReader, GlobalPaxHoldsUntilItIsReplacedOrEmptied) {
  TarBuilder tar;
  tar.pax({{"uid", "7"}, {"mtime", "11.25"}}, 'g');
  tar.file("one", "");
  tar.pax({{"uid", "8"}});
  tar.file("two", "");
  tar.pax({{"uid", ""}}, 'g');
  tar.add({.name = "three", .uid = 9});
  Reading reading = read_everywhere(tar.finish());
  ASSERT_EQ(reading.members.size(), 3U);
  EXPECT_EQ(reading.members[0].member.uid, 7U);
  EXPECT_EQ(reading.members[0].member.mtime, (tree::Time{11, 250000000}));
  EXPECT_EQ(reading.members[1].member.uid, 8U);
  EXPECT_EQ(reading.members[2].member.uid, 9U);
  EXPECT_EQ(reading.members[2].member.mtime, (tree::Time{11, 250000000}));
}

TEST(TarReader, XattrsOfBothSpellings) {
  std::string capability("\x01\x00\x00\x02\x00\x20\x00\x00", 8);
  TarBuilder tar;
  tar.pax({{"SCHILY.xattr.security.capability", capability},
           {"SCHILY.xattr.user.empty", ""},
           {"SCHILY.xattr.user.a%3Db", "sign"},
           {"LIBARCHIVE.xattr.user.b%25", "aGk"},
           {"LIBARCHIVE.xattr.user.empty", "aWdub3JlZA"}});
  tar.file("f", "");
  EXPECT_THAT(read_everywhere(tar.finish()).only().member.xattrs,
              ElementsAre(Pair("security.capability", capability), Pair("user.a=b", "sign"),
                          Pair("user.b%", "hi"), Pair("user.empty", "")));
}

TEST(TarReader, HeaderOnlyTypesHaveNoContentWhateverTheirSizeSays) {
  TarBuilder tar;
  tar.add({.name = "l", .type = '1', .link = "f", .edit = [](TarHeader& header) {
             put_tar_number(header.size, 4096);
           }});
  tar.add({.name = "d", .type = '5', .edit = [](TarHeader& header) { put_tar_number(header.size, 10); }});
  tar.file("next", "n");
  EXPECT_EQ(read_everywhere(tar.finish()).members.size(), 3U);
}

TEST(TarReader, BytesAfterTheEndAreRaw) {
  std::string tar = TarBuilder().file("f", "x").end().raw(std::string(9000, '\0')).raw("garbage").bytes();
  EXPECT_EQ(read_everywhere(tar).only().content, "x");
}

TEST(TarReader, TheEndMayBeMissingWhereTheLengthIsVerifiedOtherwise) {
  std::string tar = TarBuilder().file("f", "x").bytes();
  EXPECT_EQ(read_everywhere(tar, TarEnd::kAnywhere).only().content, "x");
  EXPECT_THAT(read_tar(tar).error, testing::HasSubstr("truncated: no end-of-archive block"));
  EXPECT_EQ(read_tar(std::string(), 1, TarEnd::kAnywhere).error, "");
}

TEST(TarReader, SignedChecksumsOfOldWriters) {
  TarBuilder built;
  built.add({.name = "caf\xe9", .edit = {}});
  std::string tar = built.finish();
  TarHeader header;
  std::memcpy(&header, tar.data(), sizeof header);
  // 0xe9 counts as -23 rather than 233.
  put_tar_number(std::span(header.checksum).first(7), tar_checksum(header) - 256);
  std::memcpy(tar.data(), &header, sizeof header);
  EXPECT_EQ(read_everywhere(tar).only().member.name, "caf\xe9");
}

// ---- sparse files: "AAAA" at 0, a hole, "BB" at 1000, a hole up to 2000

const std::string kSparseContent = "AAAA" + std::string(996, '\0') + "BB" + std::string(998, '\0');

TEST(TarReader, OldGnuSparse) {
  TarBuilder tar;
  tar.add({.name = "s",
           .type = 'S',
           .content = "AAAABB",
           .dialect = TarDialect::kGnu,
           .edit = [](TarHeader& header) {
             put_header(header, kGnuSparseAt,
                        number_field(0) + number_field(4) + number_field(1000) + number_field(2));
             put_header(header, kGnuRealSizeAt, number_field(2000));
           }});
  const ReadMember read = read_everywhere(tar.finish()).only();
  EXPECT_TRUE(read.member.is_sparse);
  EXPECT_EQ(read.member.size, 2000U);
  EXPECT_EQ(read.content, kSparseContent);
}

TEST(TarReader, OldGnuSparseGoesOnInExtensionBlocks) {
  // 4 + 21 + 5 extents of one byte each, every 10 bytes.
  std::vector<std::string> pairs;
  std::string expected;
  for (int i = 0; i < 30; ++i) {
    pairs.push_back(number_field(i * 10) + number_field(1));
    expected += std::string(1, static_cast<char>('a' + i % 26)) + std::string(9, '\0');
  }
  std::string content;
  for (int i = 0; i < 30; ++i) content += static_cast<char>('a' + i % 26);
  auto block = [&](std::size_t from, std::size_t to, bool more) {
    std::string bytes;
    for (std::size_t i = from; i < to; ++i) bytes += pairs[i];
    bytes.resize(kTarBlock, '\0');
    bytes[kGnuExtensionMoreAt] = more ? '\1' : '\0';
    return bytes;
  };
  TarBuilder tar;
  tar.add({.name = "s", .type = 'S', .dialect = TarDialect::kGnu, .edit = [&](TarHeader& header) {
             put_header(header, kGnuSparseAt, pairs[0] + pairs[1] + pairs[2] + pairs[3]);
             put_header(header, kGnuMoreAt, "\1");
             put_header(header, kGnuRealSizeAt, number_field(300));
             put_tar_number(header.size, 30);
           }});
  tar.raw(block(4, 25, true)).raw(block(25, 30, false)).raw(content).pad();
  tar.file("next", "n");
  Reading reading = read_everywhere(tar.finish());
  ASSERT_EQ(reading.members.size(), 2U);
  EXPECT_EQ(reading.members[0].content, expected);
}

TEST(TarReader, PaxSparse00) {
  TarBuilder tar;
  tar.pax({{"GNU.sparse.size", "2000"},
           {"GNU.sparse.numblocks", "2"},
           {"GNU.sparse.offset", "0"},
           {"GNU.sparse.numbytes", "4"},
           {"GNU.sparse.offset", "1000"},
           {"GNU.sparse.numbytes", "2"}});
  tar.file("s", "AAAABB");
  EXPECT_EQ(read_everywhere(tar.finish()).only().content, kSparseContent);
}

TEST(TarReader, PaxSparse01) {
  TarBuilder tar;
  tar.pax({{"GNU.sparse.name", "real/name"},
           {"GNU.sparse.size", "2000"},
           {"GNU.sparse.numblocks", "2"},
           {"GNU.sparse.map", "0,4,1000,2"}});
  tar.file("GNUSparseFile.1/name", "AAAABB");
  const ReadMember read = read_everywhere(tar.finish()).only();
  EXPECT_EQ(read.content, kSparseContent);
  EXPECT_EQ(read.member.name, "real/name");
}

TEST(TarReader, PaxSparse10) {
  std::string map = "2\n0\n4\n1000\n2\n";
  map.resize(kTarBlock, '\0');
  TarBuilder tar;
  tar.pax({{"GNU.sparse.major", "1"},
           {"GNU.sparse.minor", "0"},
           {"GNU.sparse.name", "real/name"},
           {"GNU.sparse.realsize", "2000"}});
  tar.file("GNUSparseFile.1/name", map + "AAAABB");
  const ReadMember read = read_everywhere(tar.finish()).only();
  EXPECT_EQ(read.content, kSparseContent);
  EXPECT_EQ(read.member.name, "real/name");
}

TEST(TarReader, PaxSparse10WithAMapOverBlockBoundaries) {
  std::string map = "200\n";
  std::string data;
  std::string expected;
  for (int i = 0; i < 200; ++i) {
    map += std::to_string(i * 1000) + "\n1\n";
    data += 'd';
    expected += 'd' + std::string(999, '\0');
  }
  ASSERT_GT(map.size(), 2 * kTarBlock);
  map.resize(map.size() + tar_padding(map.size()), '\0');
  TarBuilder tar;
  tar.pax({{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "0"}, {"GNU.sparse.realsize", "200000"}});
  tar.file("s", map + data);
  EXPECT_EQ(read_everywhere(tar.finish()).only().content, expected);
}

TEST(TarReader, AFileOfHolesOnly) {
  TarBuilder tar;
  tar.pax({{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "0"}, {"GNU.sparse.realsize", "5000"}});
  std::string map = "1\n5000\n0\n";
  map.resize(kTarBlock, '\0');
  tar.file("s", map);
  const ReadMember read = read_everywhere(tar.finish()).only();
  EXPECT_TRUE(read.member.extents.empty());
  EXPECT_EQ(read.content, std::string(5000, '\0'));
}

}  // namespace
}  // namespace layerfs::image
