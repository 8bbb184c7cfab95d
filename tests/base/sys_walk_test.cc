// SPDX-License-Identifier: Apache-2.0
// open_in_root by openat2 and by its fallback (a seccomp filter makes the call absent), and remove_tree.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "fs/base/function_ref.h"
#include "fs/base/sys_file.h"
#include "tests/base/scratch_dir.h"

namespace layerfs {
namespace {

/// Makes openat2 fail with `code` in the calling thread, for good.
void refuse_openat2(int code) {
  scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
  ASSERT_NE(filter, nullptr);
  ASSERT_EQ(seccomp_rule_add(filter, SCMP_ACT_ERRNO(static_cast<unsigned>(code)), SYS_openat2, 0), 0);
  ASSERT_EQ(seccomp_load(filter), 0);
  seccomp_release(filter);
  ASSERT_EQ(::syscall(SYS_openat2, AT_FDCWD, ".", nullptr, 0), -1);
  ASSERT_EQ(errno, code);
}

/// With openat2, and without it as an old kernel and as an old container profile answer.
class OpenInRoot : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    ASSERT_TRUE(make_dirs(dir_ / "root/a/b", 0700));
    ASSERT_TRUE(write_file_atomic(dir_ / "secret", "outside", 0600));
    ASSERT_TRUE(write_file_atomic(dir_ / "root/top", "top", 0600));
    ASSERT_TRUE(write_file_atomic(dir_ / "root/a/b/file", "inside", 0600));
    link("../top", "root/a/up");
    link("/top", "root/a/absolute");
    link("../../../../../../top", "root/a/b/many_up");
    link((dir_ / "secret"), "root/escape");
    link("b", "root/a/to_b");
    link("/a", "root/a/to_a");
    link("loop2", "root/loop1");
    link("loop1", "root/loop2");
    link("new", "root/dangling");
    link("to_b/../to_b/file", "root/a/mixed");
    root_ = std::move(*open_file(dir_ / "root", O_PATH | O_DIRECTORY));
  }

  /// Runs `body` where openat2 is as the parameter says; a filter dies with its thread.
  void run(FunctionRef<void()> body) const {
    std::jthread([&] {
      if (GetParam() != 0) refuse_openat2(GetParam());
      body();
    });
  }
  /// What `path` in the root reads as, or the errno's name in brackets.
  std::string read(const std::string& path, int flags = O_RDONLY) const {
    auto fd = open_in_root(root_.get(), path, flags);
    if (!fd) return "<" + errno_text(fd.error().code) + ">";
    std::string buffer(100, '\0');
    auto size = read_full(fd->get(), std::as_writable_bytes(std::span(buffer)));
    if (!size) return "<" + errno_text(size.error().code) + ">";
    return buffer.substr(0, *size);
  }
  void link(const std::string& target, const std::string& path) const {
    ASSERT_EQ(::symlink(target.c_str(), (dir_ / path).c_str()), 0);
  }

  ScratchDir dir_;
  Fd root_;
};

INSTANTIATE_TEST_SUITE_P(Openat2, OpenInRoot, testing::Values(0, ENOSYS, EPERM), [](const auto& instance) {
  return instance.param == 0 ? "present" : instance.param == ENOSYS ? "absent" : "forbidden";
});

TEST_P(OpenInRoot, OpensPathsInsideWhateverTheirForm) {
  run([&] {
    for (const char* path :
         {"top", "/top", "//top", "./top", "a/../top", "../top", "/../../top", "a/b/../../top"})
      EXPECT_EQ(read(path), "top") << path;
    EXPECT_EQ(read("a/b/file"), "inside");
    EXPECT_EQ(read("a//b/./file"), "inside");
  });
}

TEST_P(OpenInRoot, FollowsLinksInsideTheRootOnly) {
  run([&] {
    for (const char* path : {"a/up", "a/absolute", "a/b/many_up", "a/to_b/../up", "a/to_a/up"})
      EXPECT_EQ(read(path), "top") << path;
    EXPECT_EQ(read("a/to_b/file"), "inside");
    EXPECT_EQ(read("a/mixed"), "inside");
    EXPECT_EQ(read("a/to_a/to_a/to_b/file"), "inside");
    EXPECT_EQ(read("escape"), "<no such file or directory>");
    EXPECT_EQ(read("../secret"), "<no such file or directory>");
    EXPECT_EQ(read("a/../../secret"), "<no such file or directory>");
  });
}

TEST_P(OpenInRoot, GivesTheKernelsErrors) {
  run([&] {
    EXPECT_EQ(read("none"), "<no such file or directory>");
    EXPECT_EQ(read("none/top"), "<no such file or directory>");
    EXPECT_EQ(read("top/below"), "<not a directory>");
    EXPECT_EQ(read("top/"), "<not a directory>");
    EXPECT_EQ(read("top", O_RDONLY | O_DIRECTORY), "<not a directory>");
    EXPECT_EQ(read("loop1"), "<too many levels of symbolic links>");
    EXPECT_EQ(read("loop1/x"), "<too many levels of symbolic links>");
    EXPECT_EQ(read("a/up", O_RDONLY | O_NOFOLLOW), "<too many levels of symbolic links>");
    EXPECT_EQ(read("a", O_RDONLY), "<is a directory>");
    EXPECT_EQ(open_in_root(root_.get(), "a/none", O_RDONLY).error().message(),
              "open 'a/none': no such file or directory");
  });
}

TEST_P(OpenInRoot, OpensDirectories) {
  run([&] {
    auto file = find_stat_at(AT_FDCWD, dir_ / "root/a/b", 0);
    for (const char* path : {"a/b", "a/b/", "a/to_b", "a/to_b/", "a/to_b/."}) {
      auto fd = open_in_root(root_.get(), path, O_RDONLY | O_DIRECTORY);
      ASSERT_TRUE(fd) << path << ": " << fd.error().message();
      EXPECT_EQ(stat_fd(fd->get())->st_ino, (*file)->st_ino) << path;
    }
    for (const char* path : {"", ".", "/", "..", "a/..", "a/to_a/../.."}) {
      auto fd = open_in_root(root_.get(), path, O_RDONLY | O_DIRECTORY);
      ASSERT_TRUE(fd) << path << ": " << fd.error().message();
      EXPECT_EQ(stat_fd(fd->get())->st_ino, stat_fd(root_.get())->st_ino) << path;
    }
  });
}

TEST_P(OpenInRoot, GivesTheLinkItselfWhereAsked) {
  run([&] {
    auto link = open_in_root(root_.get(), "a/up", O_PATH | O_NOFOLLOW);
    ASSERT_TRUE(link);
    EXPECT_TRUE(S_ISLNK(stat_fd(link->get())->st_mode));
    auto target = open_in_root(root_.get(), "a/up", O_PATH);
    ASSERT_TRUE(target);
    EXPECT_TRUE(S_ISREG(stat_fd(target->get())->st_mode));
    auto through = open_in_root(root_.get(), "a/to_b/", O_PATH | O_NOFOLLOW);
    ASSERT_TRUE(through);
    EXPECT_TRUE(S_ISDIR(stat_fd(through->get())->st_mode));
  });
}

TEST_P(OpenInRoot, CreatesInsideTheRootAndClosesOnExec) {
  run([&] {
    auto fd = open_in_root(root_.get(), "a/to_b/made", O_CREAT | O_EXCL | O_WRONLY, 0640);
    ASSERT_TRUE(fd) << fd.error().message();
    EXPECT_NE(::fcntl(fd->get(), F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_EQ((*find_stat_at(AT_FDCWD, dir_ / "root/a/b/made", 0))->st_mode & 07777, 0640U);
    ASSERT_TRUE(open_in_root(root_.get(), "dangling", O_CREAT | O_WRONLY, 0600));
    EXPECT_TRUE(find_stat_at(AT_FDCWD, dir_ / "root/new", 0)->has_value());
    EXPECT_EQ(open_in_root(root_.get(), "a/up", O_CREAT | O_EXCL | O_WRONLY, 0600).error().code, EEXIST);
    EXPECT_FALSE(open_in_root(root_.get(), "escape", O_CREAT | O_WRONLY, 0600))
        << "its directory is not inside";
    EXPECT_EQ(*read_file(dir_ / "secret"), "outside");
  });
}

TEST_P(OpenInRoot, NeverLeavesTheRootWhileDirectoriesMove) {
  // A directory is moved in and out while its child climbs out of it by "..": never to the secret.
  ASSERT_TRUE(make_dirs(dir_ / "root/deep/er", 0700));
  std::jthread mover([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      ::rename((dir_ / "root/deep/er").c_str(), (dir_ / "root/er").c_str());
      ::rename((dir_ / "root/er").c_str(), (dir_ / "root/deep/er").c_str());
    }
  });
  run([&] {
    for (int i = 0; i < 2000; ++i) EXPECT_NE(read("deep/er/../../../../secret"), "outside");
  });
}

TEST(RemoveTree, RemovesFilesDirectoriesAndLinks) {
  ScratchDir dir;
  ASSERT_TRUE(make_dirs(dir / "tree/a/b/c", 0700));
  ASSERT_TRUE(write_file_atomic(dir / "tree/a/file", "x", 0400));
  ASSERT_TRUE(write_file_atomic(dir / "kept", "x", 0600));
  ASSERT_TRUE(make_dir(dir / "kept_dir", 0700));
  ASSERT_TRUE(write_file_atomic(dir / "kept_dir/file", "x", 0600));
  ASSERT_EQ(::symlink("../../kept_dir", (dir / "tree/a/link").c_str()), 0);
  ASSERT_EQ(::symlink("/nowhere", (dir / "tree/dangling").c_str()), 0);
  ASSERT_EQ(::mkfifo((dir / "tree/fifo").c_str(), 0600), 0);
  EXPECT_TRUE(remove_tree(dir / "tree/"));
  EXPECT_THAT(*list_dir(dir.path()), testing::UnorderedElementsAre("kept", "kept_dir"));
  EXPECT_EQ(list_dir(dir / "kept_dir")->size(), 1U);
  EXPECT_TRUE(remove_tree(dir / "kept"));
}

TEST(RemoveTree, ALinkAtTheTopIsRemovedNotFollowed) {
  ScratchDir dir;
  ASSERT_TRUE(make_dirs(dir / "target/sub", 0700));
  ASSERT_EQ(::symlink("target", (dir / "link").c_str()), 0);
  EXPECT_TRUE(remove_tree(dir / "link"));
  EXPECT_TRUE(find_stat_at(AT_FDCWD, dir / "target/sub", 0)->has_value());
}

TEST(RemoveTree, NothingThereIsSuccess) {
  ScratchDir dir;
  EXPECT_TRUE(remove_tree(dir / "none"));
  EXPECT_TRUE(remove_tree(dir / "none/below"));
}

TEST(RemoveTree, RefusesWhatIsNoEntry) {
  for (const char* path : {"", ".", "..", "/", "//", "a/.."}) {
    auto removed = remove_tree(path);
    ASSERT_FALSE(removed) << path;
    EXPECT_EQ(removed.error().kind, ErrorKind::kInvalid) << path;
  }
}

/// Runs `body` in a child process as an ordinary user (where the test is root's); true where it passed.
bool passes_as_user(FunctionRef<bool()> body) {
  pid_t child = ::fork();
  if (child == 0) {
    if (::getuid() == 0 && (::setgid(65534) != 0 || ::setuid(65534) != 0)) ::_exit(2);
    ::_exit(body() ? 0 : 1);
  }
  int status = 0;
  return ::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(RemoveTree, RemovesDirectoriesWithoutTheirOwnersBits) {
  ScratchDir dir;
  ASSERT_EQ(::chmod(dir.path().c_str(), 0777), 0);
  EXPECT_TRUE(passes_as_user([&] {
    return make_dirs(dir / "tree/a/b", 0700).has_value() && ::chmod((dir / "tree/a/b").c_str(), 0) == 0 &&
           ::chmod((dir / "tree/a").c_str(), 0500) == 0 && ::chmod((dir / "tree").c_str(), 0) == 0 &&
           remove_tree(dir / "tree").has_value();
  }));
  EXPECT_TRUE(list_dir(dir.path())->empty());
}

TEST(RemoveTree, NamesTheEntryThatCannotGo) {
  ScratchDir dir;
  ASSERT_EQ(::chmod(dir.path().c_str(), 0777), 0);
  ASSERT_TRUE(make_dir(dir / "tree", 0755));
  ASSERT_TRUE(write_file_atomic(dir / "tree/file", "x", 0644));
  if (::getuid() != 0) GTEST_SKIP() << "needs root, to be refused as another user";
  EXPECT_TRUE(passes_as_user([&] {
    auto removed = remove_tree(dir / "tree");
    return !removed && (removed.error().code == EPERM || removed.error().code == EACCES) &&
           removed.error().message().find((dir / "tree/file")) != std::string::npos;
  }));
  EXPECT_EQ(*read_file(dir / "tree/file"), "x");
}

TEST(RemoveTree, StopsAtABindMountOfTheSameFileSystem) {
  ScratchDir dir;
  ASSERT_TRUE(make_dirs(dir / "tree/mount", 0700));
  ASSERT_TRUE(make_dir(dir / "volume", 0700));
  ASSERT_TRUE(write_file_atomic(dir / "volume/data", "precious", 0600));
  pid_t child = ::fork();
  if (child == 0) {
    // A user namespace only where it is needed: root may unshare mounts as it is.
    if (::unshare(CLONE_NEWNS | (::getuid() == 0 ? 0 : CLONE_NEWUSER)) != 0) ::_exit(77);
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) ::_exit(77);
    if (::mount((dir / "volume").c_str(), (dir / "tree/mount").c_str(), nullptr, MS_BIND, nullptr) != 0)
      ::_exit(77);
    auto removed = remove_tree(dir / "tree");
    auto top = remove_tree(dir / "tree/mount");
    ::_exit(!removed && removed.error().code == EBUSY && !top && top.error().code == EBUSY ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(*read_file(dir / "volume/data"), "precious");
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "no mount namespace here";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(RemoveTree, GoesAnyDepthWithFewDescriptors) {
  ScratchDir dir;
  auto fd = open_file(dir.path(), O_RDONLY | O_DIRECTORY);
  constexpr int kDepth = 5000;
  for (int i = 0; i < kDepth; ++i) {
    ASSERT_EQ(::mkdirat(fd->get(), "d", 0700), 0);
    ASSERT_EQ(::mkdirat(fd->get(), "removed.7", 0700), 0);  // names that may be in the way
    fd = open_at(fd->get(), "d", O_RDONLY | O_DIRECTORY);
    ASSERT_TRUE(fd);
  }
  const pid_t child = ::fork();
  if (child == 0) {
    const struct rlimit few{64, 64};
    ::_exit(::setrlimit(RLIMIT_NOFILE, &few) == 0 && remove_tree(dir / "d") ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_THAT(*list_dir(dir.path()), testing::ElementsAre("removed.7"));
}

}  // namespace
}  // namespace layerfs
