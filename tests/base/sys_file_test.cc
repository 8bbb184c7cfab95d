// SPDX-License-Identifier: Apache-2.0
#include "fs/base/sys_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "tests/base/scratch_dir.h"

namespace layerfs {
namespace {

using testing::UnorderedElementsAre;

TEST(SysFile, OpenNamesThePathAndClosesOnExec) {
  ScratchDir dir;
  auto missing = open_file(dir / "none", O_RDONLY);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ENOENT);
  EXPECT_EQ(missing.error().message(), "open '" + (dir / "none") + "': no such file or directory");
  auto made = open_file(dir / "file", O_CREAT | O_EXCL | O_WRONLY, 0640);
  ASSERT_TRUE(made);
  EXPECT_NE(::fcntl(made->get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_EQ(stat_fd(made->get())->st_mode & 07777, 0640U);
}

TEST(SysFile, ReadsAndWritesWholeBuffers) {
  ScratchDir dir;
  std::string data(300'000, 'x');
  data[299'999] = 'y';
  auto fd = open_file(dir / "file", O_CREAT | O_RDWR, 0600);
  ASSERT_TRUE(fd);
  ASSERT_TRUE(write_full(fd->get(), std::as_bytes(std::span(data))));
  ASSERT_TRUE(pwrite_full(fd->get(), std::as_bytes(std::span("ab", 2)), 10));
  data.replace(10, 2, "ab");
  std::string buffer(400'000, '\0');
  EXPECT_EQ(*pread_full(fd->get(), std::as_writable_bytes(std::span(buffer)), 0), data.size());
  EXPECT_EQ(buffer.substr(0, data.size()), data);
  EXPECT_EQ(*pread_full(fd->get(), std::as_writable_bytes(std::span(buffer)), 299'998), 2U);
  EXPECT_EQ(buffer.substr(0, 2), "xy");
  EXPECT_EQ(*pread_full(fd->get(), std::as_writable_bytes(std::span(buffer)), 1'000'000), 0U);
}

TEST(SysFile, ReadFullCollectsAPipesPieces) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  Fd read_end(ends[0]);
  Fd write_end(ends[1]);
  std::jthread writer([&] {
    for (int i = 0; i < 100; ++i)
      EXPECT_TRUE(write_full(write_end.get(), std::as_bytes(std::span("0123456789", 10))));
    write_end.reset();
  });
  std::string buffer(2000, '\0');
  EXPECT_EQ(*read_full(read_end.get(), std::as_writable_bytes(std::span(buffer))), 1000U);
  EXPECT_EQ(buffer.substr(995, 5), "56789");
}

TEST(SysFile, WriteErrorsComeBack) {
  auto full = open_file("/dev/full", O_WRONLY);
  ASSERT_TRUE(full);
  auto written = write_full(full->get(), std::as_bytes(std::span("x", 1)));
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, ENOSPC);
}

TEST(SysFile, ReadFileKeepsItsLimit) {
  ScratchDir dir;
  ASSERT_TRUE(write_file_atomic(dir / "file", std::string(100'000, 'z'), 0600));
  EXPECT_EQ(read_file(dir / "file")->size(), 100'000U);
  EXPECT_EQ(read_file(dir / "file", 100'000)->size(), 100'000U);
  auto refused = read_file(dir / "file", 99'999);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(*read_file("/dev/null"), "");
  EXPECT_EQ(read_file("/proc/sys/kernel/random/boot_id")->size(), 37U)
      << "says that it is empty, and is read at once";
  EXPECT_EQ(read_file(dir.path()).error().code, EISDIR);
}

TEST(SysFile, WriteFileAtomicReplacesWholeFilesAndLeavesNoTemporary) {
  ScratchDir dir;
  ASSERT_TRUE(write_file_atomic(dir / "state", "a longer first version", 0600));
  ASSERT_TRUE(write_file_atomic(dir / "state", "second", 0644));
  EXPECT_EQ(*read_file(dir / "state"), "second");
  EXPECT_EQ((*find_stat_at(AT_FDCWD, dir / "state", 0))->st_mode & 07777, 0644U);
  EXPECT_THAT(*list_dir(dir.path()), UnorderedElementsAre("state"));
}

TEST(SysFile, WriteFileAtomicThatFailsLeavesTheOldThing) {
  ScratchDir dir;
  ASSERT_TRUE(make_dir(dir / "taken", 0700));
  ASSERT_TRUE(write_file_atomic(dir / "taken/inside", "x", 0600));
  EXPECT_FALSE(write_file_atomic(dir / "taken", "file", 0600));
  EXPECT_EQ(*read_file(dir / "taken/inside"), "x");
  EXPECT_THAT(*list_dir(dir.path()), UnorderedElementsAre("taken"));
  EXPECT_EQ(write_file_atomic(dir / "none/file", "x", 0600).error().code, ENOENT);
}

TEST(SysFile, UnnamedFileHasNoName) {
  ScratchDir dir;
  auto fd = open_unnamed(dir.path(), 0600);
  if (!fd && fd.error().code == EOPNOTSUPP) GTEST_SKIP() << "no O_TMPFILE in " << dir.path();
  ASSERT_TRUE(fd);
  EXPECT_EQ(stat_fd(fd->get())->st_nlink, 0U);
  EXPECT_TRUE(list_dir(dir.path())->empty());
}

TEST(SysFile, FindStatTellsAbsenceFromFailure) {
  ScratchDir dir;
  ASSERT_TRUE(write_file_atomic(dir / "file", "x", 0600));
  EXPECT_TRUE(find_stat_at(AT_FDCWD, dir / "file", 0)->has_value());
  EXPECT_FALSE(find_stat_at(AT_FDCWD, dir / "none", 0)->has_value());
  EXPECT_FALSE(find_stat_at(AT_FDCWD, dir / "file/below", 0)->has_value());
  EXPECT_EQ(find_stat_at(AT_FDCWD, dir / std::string(300, 'n'), 0).error().code, ENAMETOOLONG);
}

TEST(SysFile, MakeDirsMakesWhatIsMissing) {
  ScratchDir dir;
  EXPECT_TRUE(make_dirs(dir / "a/b/c", 0700));
  EXPECT_TRUE(make_dirs(dir / "a/b/c", 0700));
  EXPECT_TRUE(make_dirs(dir / "d/e/", 0700));
  ASSERT_TRUE(write_file_atomic(dir / "file", "x", 0600));
  EXPECT_EQ(make_dir(dir / "file", 0700).error().code, ENOTDIR);
  EXPECT_EQ(make_dirs(dir / "file/x", 0700).error().code, ENOTDIR);
  EXPECT_THAT(*list_dir(dir.path()), UnorderedElementsAre("a", "d", "file"));
}

TEST(SysFile, MakeDirsAtOnceAllSucceed) {
  ScratchDir dir;
  std::vector<std::jthread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&] { EXPECT_TRUE(make_dirs(dir / "one/two/three/four", 0700)); });
}

TEST(SysFile, RenameTakesItsFlags) {
  ScratchDir dir;
  ASSERT_TRUE(write_file_atomic(dir / "a", "a", 0600));
  ASSERT_TRUE(write_file_atomic(dir / "b", "b", 0600));
  auto fd = open_file(dir.path(), O_RDONLY | O_DIRECTORY);
  ASSERT_TRUE(fd);
  EXPECT_EQ(rename_at(fd->get(), "a", fd->get(), "b", RENAME_NOREPLACE).error().code, EEXIST);
  ASSERT_TRUE(rename_at(fd->get(), "a", fd->get(), "b", RENAME_EXCHANGE));
  EXPECT_EQ(*read_file_at(fd->get(), "a"), "b");
  ASSERT_TRUE(rename_file(dir / "a", dir / "b"));
  EXPECT_EQ(*read_file(dir / "b"), "b");
  ASSERT_TRUE(unlink_at(fd->get(), "b", 0));
  EXPECT_EQ(unlink_at(fd->get(), "b", 0).error().code, ENOENT);
}

TEST(SysFile, ListDirGivesEveryNameOnce) {
  ScratchDir dir;
  std::vector<std::string> expected;
  for (int i = 0; i < 500; ++i) {
    expected.push_back("name" + std::to_string(i));
    ASSERT_TRUE(open_file(dir / expected.back(), O_CREAT | O_WRONLY, 0600));
  }
  auto names = list_dir(dir.path());
  ASSERT_TRUE(names);
  std::sort(names->begin(), names->end());
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(*names, expected);
  EXPECT_EQ(list_dir(dir / "name1").error().code, ENOTDIR);
}

TEST(SysFile, ListDirAtLeavesTheCallersPositionAlone) {
  ScratchDir dir;
  ASSERT_TRUE(make_dir(dir / "sub", 0700));
  auto fd = open_file(dir.path(), O_RDONLY | O_DIRECTORY);
  ASSERT_TRUE(fd);
  EXPECT_EQ(list_dir_at(fd->get())->size(), 1U);
  EXPECT_EQ(list_dir_at(fd->get())->size(), 1U);
}

TEST(LockFile, ExclusiveKeepsOthersOutSharedDoesNot) {
  ScratchDir dir;
  auto first = open_file(dir / "lock", O_CREAT | O_RDWR, 0600);
  auto second = open_file(dir / "lock", O_RDWR);
  ASSERT_TRUE(first && second);
  EXPECT_TRUE(*lock_file(first->get(), LockMode::kExclusive, LockWait::kNo));
  EXPECT_FALSE(*lock_file(second->get(), LockMode::kShared, LockWait::kNo));
  EXPECT_TRUE(*lock_file(first->get(), LockMode::kShared, LockWait::kNo));
  EXPECT_TRUE(*lock_file(second->get(), LockMode::kShared, LockWait::kNo));
  EXPECT_FALSE(*lock_file(second->get(), LockMode::kExclusive, LockWait::kNo));
}

TEST(LockFile, WaitsForTheHolder) {
  ScratchDir dir;
  auto first = open_file(dir / "lock", O_CREAT | O_RDWR, 0600);
  auto second = open_file(dir / "lock", O_RDWR);
  ASSERT_TRUE(first && second);
  ASSERT_TRUE(*lock_file(first->get(), LockMode::kExclusive, LockWait::kNo));
  std::jthread holder([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    first->reset();
  });
  EXPECT_TRUE(*lock_file(second->get(), LockMode::kExclusive, LockWait::kYes));
}

TEST(Xattr, SetsFindsAndLists) {
  ScratchDir dir;
  auto fd = open_file(dir / "file", O_CREAT | O_RDWR, 0600);
  ASSERT_TRUE(fd);
  auto set = set_xattr_fd(fd->get(), "user.empty", "");
  if (!set && set.error().code == EOPNOTSUPP) GTEST_SKIP() << "no user xattrs in " << dir.path();
  ASSERT_TRUE(set);
  std::string binary("a\0b", 3);
  ASSERT_TRUE(set_xattr_fd(fd->get(), "user.binary", binary));
  auto handle = open_file(dir / "file", O_PATH);
  ASSERT_TRUE(handle);
  for (int which : {fd->get(), handle->get()}) {
    EXPECT_EQ(**find_xattr_fd(which, "user.binary"), binary);
    EXPECT_EQ(**find_xattr_fd(which, "user.empty"), "");
    EXPECT_FALSE(find_xattr_fd(which, "user.none")->has_value());
    EXPECT_THAT(*list_xattrs_fd(which), testing::IsSupersetOf({"user.empty", "user.binary"}));
  }
}

TEST(JoinPath, PutsOneSlashBetween) {
  EXPECT_EQ(join_path("a", "b"), "a/b");
  EXPECT_EQ(join_path("a/", "b"), "a/b");
  EXPECT_EQ(join_path("/", "b"), "/b");
  EXPECT_EQ(join_path("", "b"), "b");
}

TEST(RealPath, IsAbsoluteAndWithoutLinks) {
  ScratchDir dir;
  std::string top = *real_path(dir / ".");
  ASSERT_TRUE(make_dirs(dir / "a/b", 0700));
  ASSERT_EQ(::symlink("a/b", (dir / "link").c_str()), 0);
  EXPECT_EQ(*real_path(dir / "link/../b/."), top + "/a/b");
  auto missing = real_path(dir / "none");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().message(), "resolve '" + (dir / "none") + "': no such file or directory");
}

TEST(AbsolutePath, IsBelowTheWorkingDirectoryAndNeedNotBeThere) {
  std::string here = *real_path(".");
  EXPECT_EQ(*absolute_path("none/x"), here + "/none/x");
  EXPECT_EQ(*absolute_path("/none/../x"), "/none/../x");
}

TEST(OwnDir, IsTheCallersAndNobodyElseMayWriteIt) {
  ScratchDir dir;
  std::string path = dir / "state";
  auto found = find_own_dir(path);
  ASSERT_TRUE(found) << found.error().message();
  EXPECT_FALSE(*found);
  ASSERT_TRUE(make_dir(path, 0700));
  found = find_own_dir(path);
  ASSERT_TRUE(found) << found.error().message();
  EXPECT_TRUE(*found);
  for (mode_t mode : {0770, 0702, 01777}) {
    ASSERT_EQ(::chmod(path.c_str(), mode), 0);
    auto refused = find_own_dir(path);
    ASSERT_FALSE(refused) << mode;
    EXPECT_THAT(refused.error().message(), testing::HasSubstr(path));
  }
  ASSERT_EQ(::chmod(path.c_str(), 0755), 0);
  EXPECT_TRUE(find_own_dir(path));
  std::string link = dir / "link";
  ASSERT_EQ(::symlink(path.c_str(), link.c_str()), 0);
  EXPECT_FALSE(find_own_dir(link));
  if (::geteuid() != 0) return;  // only root gives a directory away
  ASSERT_EQ(::chown(path.c_str(), 12345, 0), 0);
  EXPECT_FALSE(find_own_dir(path));
}

}  // namespace
}  // namespace layerfs
