// SPDX-License-Identifier: Apache-2.0
// Archives that GNU tar makes of one directory in each of its formats.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstdlib>
#include <map>

#include "fs/base/sys_file.h"
#include "tests/base/scratch_dir.h"
#include "tests/image/tar_reading.h"

namespace layerfs::image {
namespace {

struct Format {
  const char* title;
  const char* options;
  bool has_nanoseconds;
  bool has_xattrs;
};

class GnuTar : public testing::TestWithParam<Format> {
 protected:
  void SetUp() override {
    if (std::system("tar --version 2>/dev/null | grep -q 'GNU tar'") != 0) GTEST_SKIP() << "no GNU tar here";
    root_ = dir_ / "root";
    ASSERT_TRUE(make_dirs(root_ + "/sub", 0755));
    write("file", "contents\n");
    write(long_name_, "long");
    ASSERT_EQ(::symlink(std::string(150, 't').c_str(), (root_ + "/link").c_str()), 0);
    ASSERT_EQ(::link((root_ + "/file").c_str(), (root_ + "/sub/hard").c_str()), 0);
    // Two runs of data and three holes.
    auto fd = open_file(root_ + "/sparse", O_WRONLY | O_CREAT, 0600);
    ASSERT_TRUE(fd);
    ASSERT_TRUE(pwrite_full(fd->get(), as_bytes("first"), 1 << 20));
    ASSERT_TRUE(pwrite_full(fd->get(), as_bytes("second"), 3 << 20));
    ASSERT_EQ(::ftruncate(fd->get(), 4 << 20), 0);
    struct timespec times[2] = {{.tv_sec = 1, .tv_nsec = 0},
                                {.tv_sec = 1'600'000'000, .tv_nsec = 123'456'789}};
    ASSERT_EQ(::utimensat(AT_FDCWD, (root_ + "/file").c_str(), times, 0), 0);
    has_xattrs_ = ::setxattr((root_ + "/file").c_str(), "user.layerfs", "a=b%", 4, 0) == 0;  // not on tmpfs
  }

  void write(const std::string& name, std::string_view text) {
    auto fd = open_file(root_ + "/" + name, O_WRONLY | O_CREAT, 0644);
    ASSERT_TRUE(fd);
    ASSERT_TRUE(write_full(fd->get(), as_bytes(text)));
  }

  std::string make_tar() {
    std::string path = dir_ / "out.tar";
    std::string command =
        std::string("tar -S ") + GetParam().options + " -C '" + root_ + "' -cf '" + path + "' .";
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
    auto bytes = read_file(path);
    EXPECT_TRUE(bytes);
    return bytes ? *bytes : std::string();
  }

  ScratchDir dir_;
  std::string root_;
  std::string long_name_ = std::string(180, 'n');
  bool has_xattrs_ = false;
};

TEST_P(GnuTar, IsReadAsItWasWritten) {
  std::string tar = make_tar();
  Reading reading = read_tar(tar);
  ASSERT_EQ(reading.error, "");
  EXPECT_TRUE(reading.stream == tar);
  std::map<std::string, const ReadMember*> members;
  for (const auto& read : reading.members) members[read.member.name] = &read;
  for (const char* name : {"./", "./sub/", "./file", "./link", "./sub/hard", "./sparse"})
    ASSERT_TRUE(members.contains(name)) << name;
  ASSERT_TRUE(members.contains("./" + long_name_));
  EXPECT_EQ(members["./" + long_name_]->content, "long");
  EXPECT_EQ(members["./link"]->member.link, std::string(150, 't'));
  // Whichever name tar came upon first has the content.
  bool file_first = members["./sub/hard"]->member.type == TarType::kHardLink;
  const ReadMember& first = *members[file_first ? "./file" : "./sub/hard"];
  const ReadMember& second = *members[file_first ? "./sub/hard" : "./file"];
  EXPECT_EQ(second.member.type, TarType::kHardLink);
  EXPECT_EQ(second.member.link, first.member.name);
  EXPECT_EQ(first.content, "contents\n");
  EXPECT_EQ(first.member.mtime, (tree::Time{1'600'000'000, GetParam().has_nanoseconds ? 123'456'789U : 0U}));
  if (has_xattrs_ && GetParam().has_xattrs) {
    EXPECT_THAT(first.member.xattrs, testing::Contains(testing::Pair("user.layerfs", "a=b%")));
  }
  std::string content(4 << 20, '\0');
  content.replace(1 << 20, 5, "first").replace(3 << 20, 6, "second");
  EXPECT_TRUE(members["./sparse"]->member.is_sparse);
  EXPECT_TRUE(members["./sparse"]->content == content);
}

INSTANTIATE_TEST_SUITE_P(
    Formats, GnuTar,
    testing::Values(Format{"gnu", "--format=gnu", false, false},
                    Format{"oldgnu", "--format=oldgnu", false, false},
                    Format{"pax00", "--format=pax --sparse-version=0.0 --xattrs", true, true},
                    Format{"pax01", "--format=pax --sparse-version=0.1 --xattrs", true, true},
                    Format{"pax10", "--format=pax --sparse-version=1.0 --xattrs", true, true}),
    [](const auto& tested) { return tested.param.title; });

}  // namespace
}  // namespace layerfs::image
