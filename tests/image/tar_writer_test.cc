// SPDX-License-Identifier: Apache-2.0
#include "fs/image/tar_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/sysmacros.h>

#include "tests/image/tar_listing.h"

namespace layerfs::image {
namespace {

using testing::ElementsAre;
using tree::NodeKind;

tree::Node node_of(NodeKind kind, std::uint16_t mode) {
  tree::Node node;
  node.kind = kind;
  node.mode = mode;
  node.mtime = {1600000000, 0};
  return node;
}

TarEntry entry_of(std::string path, NodeKind kind, std::uint16_t mode) {
  TarEntry entry;
  entry.path = std::move(path);
  entry.node = node_of(kind, mode);
  return entry;
}

class TarWriterTest : public testing::Test {
 protected:
  void add(const TarEntry& entry, std::string_view content = {}) {
    auto added = writer_.add(entry);
    ASSERT_TRUE(added) << added.error().message();
    if (!content.empty()) {
      ASSERT_TRUE(writer_.write(content));
    }
  }
  void add_file(std::string path, std::string_view content) {
    TarEntry entry = entry_of(std::move(path), NodeKind::kRegular, 0644);
    entry.node.size = content.size();
    add(entry, content);
  }
  std::vector<ListedEntry> finish() {
    EXPECT_TRUE(writer_.finish());
    EXPECT_EQ(tar_.size() % kTarBlock, 0U);
    return list_tar(tar_);
  }
  /// The only entry, written and read back.
  ListedEntry round_trip(const TarEntry& entry, std::string_view content = {}) {
    add(entry, content);
    auto entries = finish();
    EXPECT_EQ(entries.size(), 1U);
    return entries.empty() ? ListedEntry{} : entries.front();
  }

  std::string tar_;
  TarWriter writer_{[this](std::string_view bytes) -> Result<void> {
    tar_ += bytes;
    return {};
  }};
};

TEST_F(TarWriterTest, PlainEntryIsOneHeaderBlock) {
  add_file("etc/hostname", "host\n");
  finish();
  // Header, content, two zero blocks: no pax header for what ustar can say.
  ASSERT_EQ(tar_.size(), 4 * kTarBlock);
  EXPECT_EQ(tar_.substr(0, 13), std::string("etc/hostname\0", 13));
  EXPECT_EQ(tar_.substr(100, 8), std::string("0000644\0", 8));
  EXPECT_EQ(tar_.substr(136, 12), std::string("13727410000\0", 12));
  EXPECT_EQ(tar_.substr(257, 8), std::string("ustar\00000", 8));
  EXPECT_EQ(tar_.substr(512, 5), "host\n");
}

TEST_F(TarWriterTest, EveryKindIsReadBack) {
  add(entry_of("", NodeKind::kDirectory, 0755));
  add(entry_of("dir", NodeKind::kDirectory, 01777));
  TarEntry link = entry_of("dir/link", NodeKind::kSymlink, 0777);
  link.symlink = "../target";
  add(link);
  TarEntry device = entry_of("dir/char", NodeKind::kCharDevice, 0666);
  device.node.rdev = makedev(240, 1048575);
  add(device);
  device = entry_of("dir/block", NodeKind::kBlockDevice, 0660);
  device.node.rdev = makedev(4095, 255);
  add(device);
  add(entry_of("dir/fifo", NodeKind::kFifo, 0600));
  add_file("dir/setuid", "x");
  TarEntry hard = entry_of("dir/hard", NodeKind::kRegular, 0644);
  hard.hard_link = "dir/setuid";
  hard.node.size = 1;
  add(hard);
  auto entries = finish();
  ASSERT_EQ(entries.size(), 8U);
  EXPECT_THAT(names_of(entries), ElementsAre("./", "dir/", "dir/link", "dir/char", "dir/block", "dir/fifo",
                                             "dir/setuid", "dir/hard"));
  EXPECT_EQ(entries[1].member.mode, 01777);
  EXPECT_EQ(entries[2].member.link, "../target");
  EXPECT_EQ(entries[3].member.device_major, 240U);
  EXPECT_EQ(entries[3].member.device_minor, 1048575U);
  EXPECT_EQ(entries[4].member.device_major, 4095U);
  EXPECT_EQ(entries[5].member.type, TarType::kFifo);
  EXPECT_EQ(entries[7].member.type, TarType::kHardLink);
  EXPECT_EQ(entries[7].member.link, "dir/setuid");
  EXPECT_EQ(entries[7].member.size, 0U);
}

TEST_F(TarWriterTest, NamesOfEveryLengthAreReadBack) {
  std::vector<std::string> paths;
  for (std::size_t size : {1, 99, 100, 101, 155, 156, 157, 255}) paths.push_back(std::string(size, 'n'));
  for (std::size_t size : {98, 99, 100, 101, 153, 154, 155, 156, 200, 255, 1000, 4095}) {
    std::string path;
    while (path.size() < size) path += std::string(std::min<std::size_t>(49, size - path.size()), 'd') + '/';
    path.resize(size);
    if (path.back() == '/') path.back() = 'e';
    paths.push_back(path);
    paths.push_back("p/" + path.substr(2));
  }
  for (const auto& path : paths) add_file(path, "x");
  EXPECT_EQ(names_of(finish()), paths);
}

TEST_F(TarWriterTest, PrefixFieldSavesThePaxHeader) {
  std::string path = std::string(150, 'a') + '/' + std::string(100, 'b');
  add_file(path, "");
  EXPECT_EQ(names_of(finish()), std::vector{path});
  EXPECT_EQ(tar_.size(), 3 * kTarBlock);
}

TEST_F(TarWriterTest, DirectoryNameAtTheFieldsEndIsReadBack) {
  std::vector<std::string> wanted;
  for (std::size_t size : {98, 99, 100, 101}) {
    add(entry_of(std::string(size, 'd'), NodeKind::kDirectory, 0755));
    add(entry_of(std::string(60, 'p') + '/' + std::string(size, 'q'), NodeKind::kDirectory, 0755));
    wanted.push_back(std::string(size, 'd') + '/');
    wanted.push_back(std::string(60, 'p') + '/' + std::string(size, 'q') + '/');
  }
  EXPECT_EQ(names_of(finish()), wanted);
}

TEST_F(TarWriterTest, BytesThatAreNoUtf8AreReadBack) {
  std::string short_name = "caf\xe9";
  std::string long_name(200, '\xfe');
  add_file(short_name, "");
  add_file(long_name, "");
  TarEntry link = entry_of("l", NodeKind::kSymlink, 0777);
  link.symlink = std::string(300, '\xff');
  add(link);
  auto entries = finish();
  EXPECT_THAT(names_of(entries), ElementsAre(short_name, long_name, "l"));
  EXPECT_EQ(entries[2].member.link, link.symlink);
  EXPECT_NE(tar_.find("21 hdrcharset=BINARY\n"), std::string::npos);
}

TEST_F(TarWriterTest, TimesAreReadBackToTheNanosecond) {
  const std::vector<tree::Time> times = {
      {0, 0},  {0, 1},          {1600000000, 999999999}, {-1, 500000000},      {-1, 0},
      {-2, 1}, {8589934591, 0}, {8589934592, 0},         {4294967297, 250000}, {-446320800, 123456789}};
  for (const auto& time : times) {
    TarEntry entry = entry_of("t", NodeKind::kFifo, 0600);
    entry.node.mtime = time;
    add(entry);
  }
  auto entries = finish();
  ASSERT_EQ(entries.size(), times.size());
  for (std::size_t i = 0; i < times.size(); ++i) {
    EXPECT_EQ(entries[i].member.mtime.seconds, times[i].seconds);
    EXPECT_EQ(entries[i].member.mtime.nanoseconds, times[i].nanoseconds);
  }
}

TEST(PaxTime, HasNoTrailingZeros) {
  EXPECT_EQ(pax_time({5, 0}), "5");
  EXPECT_EQ(pax_time({5, 500000000}), "5.5");
  EXPECT_EQ(pax_time({5, 1}), "5.000000001");
  EXPECT_EQ(pax_time({-1, 500000000}), "-0.5");
  EXPECT_EQ(pax_time({-2, 250000000}), "-1.75");
  EXPECT_EQ(pax_time({INT64_MIN, 0}), "-9223372036854775808");
}

TEST_F(TarWriterTest, LargeOwnersAreReadBack) {
  TarEntry entry = entry_of("o", NodeKind::kFifo, 0600);
  entry.node.uid = tree::Uid{2097151};
  entry.node.gid = tree::Gid{2097152};
  add(entry);
  entry.node.uid = tree::Uid{4294967294U};
  add(entry);
  auto entries = finish();
  EXPECT_EQ(entries[0].member.uid, 2097151U);
  EXPECT_EQ(entries[0].member.gid, 2097152U);
  EXPECT_EQ(entries[1].member.uid, 4294967294U);
}

TEST_F(TarWriterTest, XattrsOfAnyBytesAreReadBack) {
  TarEntry entry = entry_of("x", NodeKind::kFifo, 0600);
  entry.xattrs = {{"security.capability", std::string("\x01\0\0\x02\0\x20\n=", 8)},
                  {"user.empty", ""},
                  {"user.eq=ual", std::string("a\0b", 3)},
                  {"user.large", std::string(60000, 'v')},
                  {"user.percent%3D", "p"},
                  {"user.\xff", "\xfe"}};
  ListedEntry read = round_trip(entry);
  EXPECT_EQ(read.member.xattrs, entry.xattrs);
}

TEST_F(TarWriterTest, SparseFileIsReadBack) {
  TarEntry entry = entry_of("dir/sparse", NodeKind::kRegular, 0600);
  entry.node.size = 1000000;
  entry.runs = {{4096, 512}, {999000 / 512 * 512, 1000000 - 999000 / 512 * 512}};
  std::string data = std::string(512, 'a') + std::string(entry.runs[1].length, 'b');
  ListedEntry read = round_trip(entry, data);
  EXPECT_EQ(read.member.name, "dir/sparse");
  std::string whole(1000000, '\0');
  whole.replace(4096, 512, std::string(512, 'a'));
  whole.replace(entry.runs[1].offset, entry.runs[1].length, std::string(entry.runs[1].length, 'b'));
  EXPECT_EQ(read.content, whole);
}

TEST_F(TarWriterTest, FileThatIsAllHoleIsReadBack) {
  TarEntry entry = entry_of("hole", NodeKind::kRegular, 0600);
  entry.node.size = std::uint64_t{1} << 20;
  entry.runs = {{entry.node.size, 0}};
  ListedEntry read = round_trip(entry);
  EXPECT_TRUE(read.member.is_sparse);
  EXPECT_EQ(read.content, std::string(1 << 20, '\0'));
}

TEST_F(TarWriterTest, SparseFileWithALongNameIsReadBack) {
  TarEntry entry = entry_of(std::string(90, 'd') + '/' + std::string(200, 's'), NodeKind::kRegular, 0600);
  entry.node.size = 1 << 20;
  entry.runs = {{0, 512}};
  ListedEntry read = round_trip(entry, std::string(512, 'x'));
  EXPECT_EQ(read.member.name, entry.path);
}

TEST_F(TarWriterTest, WhiteoutIsAnEmptyFileBesideItsName) {
  ASSERT_TRUE(writer_.add_whiteout("a/b/gone"));
  ASSERT_TRUE(writer_.add_whiteout("top"));
  EXPECT_THAT(names_of(finish()), ElementsAre("a/b/.wh.gone", ".wh.top"));
}

TEST_F(TarWriterTest, SocketIsRefused) {
  auto added = writer_.add(entry_of("run/sock", NodeKind::kSocket, 0700));
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().kind, ErrorKind::kInvalid);
}

TEST(IsUtf8, JudgesTheBorders) {
  for (std::string_view good : {"", "a", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf",
                                "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"})
    EXPECT_TRUE(is_utf8(good)) << good;
  for (std::string_view bad : {"\x80", "\xc0\x80", "\xc1\xbf", "\xc2", "\xe0\x9f\xbf", "\xed\xa0\x80",
                               "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "a\xe9"})
    EXPECT_FALSE(is_utf8(bad)) << bad;
}

}  // namespace
}  // namespace layerfs::image
