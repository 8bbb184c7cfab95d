// SPDX-License-Identifier: Apache-2.0
// What tmpcopyup copies, on plain directories.
#include "runtime/container/tmpfs_copy.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>

#include "fs/base/sys_file.h"
#include "tests/base/scratch_dir.h"

namespace layerfs::container {
namespace {

class TmpfsCopy : public testing::Test {
 protected:
  TmpfsCopy() : from_(scratch_ / "from"), to_(scratch_ / "to") {
    EXPECT_TRUE(make_dir(from_, 0700));
    EXPECT_TRUE(make_dir(to_, 0700));
  }

  void write(const std::string& name, const std::string& text, mode_t mode) {
    auto fd = open_file(from_ + '/' + name, O_WRONLY | O_CREAT, 0600);
    ASSERT_TRUE(fd);
    ASSERT_TRUE(write_full(fd->get(), std::as_bytes(std::span(text))));
    ASSERT_TRUE(set_mode(from_ + '/' + name, mode));
  }

  Result<void> copy() {
    LAYERFS_ASSIGN(Fd from, open_file(from_, O_PATH | O_DIRECTORY));
    LAYERFS_ASSIGN(Fd to, open_file(to_, O_RDONLY | O_DIRECTORY));
    return copy_into_tmpfs(from.get(), to.get());
  }

  struct stat attributes(const std::string& name) {
    auto st = find_stat_at(AT_FDCWD, to_ + '/' + name, AT_SYMLINK_NOFOLLOW);
    EXPECT_TRUE(st && *st) << name;
    return st && *st ? **st : (struct stat){};
  }

  ScratchDir scratch_;
  std::string from_;
  std::string to_;
};

TEST_F(TmpfsCopy, EveryKindWithItsModeAndTime) {
  write("file", "text", 04750);
  write("secret", "", 0);
  ASSERT_EQ(::symlink("/nowhere", (from_ + "/link").c_str()), 0);
  ASSERT_EQ(::mkfifo((from_ + "/fifo").c_str(), 0640), 0);
  ASSERT_EQ(::mknod((from_ + "/socket").c_str(), S_IFSOCK | 0600, 0), 0);
  ASSERT_TRUE(make_dir(from_ + "/sub", 0700));
  write("sub/inner", "more", 0644);
  ASSERT_TRUE(set_mode(from_ + "/sub", 01777));
  const std::array<timespec, 2> times{timespec{1000, 0}, timespec{2000, 5}};
  for (const char* name : {"/file", "/sub", "/fifo", "/link", ""})
    ASSERT_EQ(::utimensat(AT_FDCWD, (from_ + name).c_str(), times.data(), AT_SYMLINK_NOFOLLOW), 0) << name;
  ASSERT_EQ(::setxattr((from_ + "/file").c_str(), "user.note", "kept", 4, 0), 0);
  auto copied = copy();
  ASSERT_TRUE(copied) << copied.error().message();
  EXPECT_EQ(attributes("file").st_mode, S_IFREG | 04750U);
  EXPECT_EQ(*read_file(to_ + "/file"), "text");
  EXPECT_EQ(attributes("secret").st_mode, static_cast<mode_t>(S_IFREG));
  EXPECT_TRUE(S_ISLNK(attributes("link").st_mode));
  EXPECT_EQ(attributes("fifo").st_mode, S_IFIFO | 0640U);
  EXPECT_TRUE(S_ISSOCK(attributes("socket").st_mode));
  EXPECT_EQ(attributes("sub").st_mode, S_IFDIR | 01777U);
  EXPECT_EQ(*read_file(to_ + "/sub/inner"), "more");
  for (const char* name : {"file", "sub", "fifo", "link", "."}) {
    EXPECT_EQ(attributes(name).st_mtim.tv_sec, 2000) << name;
    EXPECT_EQ(attributes(name).st_mtim.tv_nsec, 5) << name;
  }
  std::array<char, 8> note{};
  EXPECT_EQ(::getxattr((to_ + "/file").c_str(), "user.note", note.data(), note.size()), 4);
}

TEST_F(TmpfsCopy, OwnersOfLinksToo) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  write("file", "text", 0644);
  ASSERT_EQ(::chown((from_ + "/file").c_str(), 10, 20), 0);
  ASSERT_TRUE(set_mode(from_ + "/file", 06755));
  ASSERT_EQ(::symlink("file", (from_ + "/link").c_str()), 0);
  ASSERT_EQ(::lchown((from_ + "/link").c_str(), 11, 21), 0);
  ASSERT_EQ(::mknod((from_ + "/null").c_str(), S_IFCHR | 0666, makedev(1, 3)), 0);
  ASSERT_EQ(::chown(from_.c_str(), 12, 22), 0);
  auto copied = copy();
  ASSERT_TRUE(copied) << copied.error().message();
  EXPECT_EQ(attributes("file").st_uid, 10U);
  EXPECT_EQ(attributes("file").st_mode & 07777, 06755U) << "chown(2) takes these bits";
  EXPECT_EQ(attributes("link").st_gid, 21U);
  EXPECT_EQ(attributes("null").st_rdev, makedev(1, 3));
  EXPECT_EQ(attributes(".").st_uid, 12U);
}

TEST_F(TmpfsCopy, AnyDepthWithFewDescriptors) {
  constexpr int kDepth = 1500;
  auto directory = open_file(from_, O_RDONLY | O_DIRECTORY);
  for (int i = 0; i < kDepth; ++i) {
    ASSERT_TRUE(directory);
    ASSERT_EQ(::mkdirat(directory->get(), "d", 0755), 0);
    ASSERT_EQ(::mkdirat(directory->get(), "z", 0755), 0);
    directory = open_at(directory->get(), "d", O_RDONLY | O_DIRECTORY);
  }
  directory = Fd();
  auto copied = copy();
  ASSERT_TRUE(copied) << copied.error().message();
  int depth = 0;
  for (auto at = open_file(to_, O_RDONLY | O_DIRECTORY); at; ++depth) {
    EXPECT_EQ(::faccessat(at->get(), "z", F_OK, 0) == 0, depth < kDepth) << depth;
    at = open_at(at->get(), "d", O_RDONLY | O_DIRECTORY);
  }
  EXPECT_EQ(depth - 1, kDepth);
}

}  // namespace
}  // namespace layerfs::container
