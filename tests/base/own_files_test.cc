// SPDX-License-Identifier: Apache-2.0
// Files of ours, whatever somebody put at their names (fs/base/own_files.h); by openat2 and by its fallback.
#include "fs/base/own_files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "fs/base/function_ref.h"
#include "fs/base/sys_file.h"
#include "tests/base/scratch_dir.h"

namespace layerfs {
namespace {

/// With openat2, and without it as an old kernel and as an old container profile answer.
class OwnFiles : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    ASSERT_TRUE(make_dirs(dir_ / "own/a/b", 0700));
    ASSERT_TRUE(make_dirs(dir_ / "elsewhere/b", 0700));
    ASSERT_TRUE(write_file_atomic(dir_ / "elsewhere/file", "precious", 0600));
    ASSERT_TRUE(write_file_atomic(dir_ / "elsewhere/b/file", "precious", 0600));
    ASSERT_TRUE(write_file_atomic(dir_ / "own/a/b/file", "ours", 0600));
    link("../elsewhere/file", "own/to_file");
    link("../elsewhere", "own/to_dir");
    link("a", "own/to_a");
    link("nothing", "own/dangling");
    ASSERT_EQ(::mkfifo((dir_ / "own/fifo").c_str(), 0600), 0);
    own_ = OwnDirectory(std::move(*open_file(dir_ / "own", O_PATH | O_DIRECTORY)), dir_ / "own");
  }

  /// Runs `body` where openat2 is as the parameter says; a filter dies with its thread.
  void run(FunctionRef<void()> body) const {
    std::jthread([&] {
      if (GetParam() != 0) {
        scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
        ASSERT_NE(filter, nullptr);
        auto code = static_cast<unsigned>(GetParam());
        ASSERT_EQ(seccomp_rule_add(filter, SCMP_ACT_ERRNO(code), SYS_openat2, 0), 0);
        ASSERT_EQ(seccomp_load(filter), 0);
        seccomp_release(filter);
      }
      body();
    });
  }
  /// The errno of an open; 0: it succeeded.
  int open(const std::string& path, int flags) const {
    auto fd = own_.open(path, flags, 0600);
    return fd ? 0 : fd.error().code;
  }
  void link(const std::string& target, const std::string& path) const {
    ASSERT_EQ(::symlink(target.c_str(), (dir_ / path).c_str()), 0);
  }
  void expect_precious() const {
    EXPECT_EQ(*read_file(dir_ / "elsewhere/file"), "precious");
    EXPECT_EQ(*read_file(dir_ / "elsewhere/b/file"), "precious");
  }

  ScratchDir dir_;
  OwnDirectory own_;
};

INSTANTIATE_TEST_SUITE_P(Openat2, OwnFiles, testing::Values(0, ENOSYS, EPERM), [](const auto& instance) {
  return instance.param == 0 ? "present" : instance.param == ENOSYS ? "absent" : "forbidden";
});

TEST_P(OwnFiles, FilesAndDirectoriesAreOpenedAndMade) {
  run([&] {
    EXPECT_EQ(*own_.read("a/b/file", 100), "ours");
    EXPECT_EQ(*own_.read("a//b/./file", 100), "ours");
    EXPECT_EQ(open("a/b", O_RDONLY | O_DIRECTORY), 0);
    EXPECT_EQ(open(".", O_RDONLY | O_DIRECTORY), 0);
    EXPECT_EQ(open("a/new", O_WRONLY | O_CREAT | O_EXCL), 0);
    EXPECT_EQ(open("a/new", O_WRONLY | O_CREAT | O_EXCL), EEXIST);
    EXPECT_EQ(open("a/b/file", O_WRONLY | O_TRUNC), 0);
    EXPECT_EQ(*own_.read("a/b/file", 100), "");
    EXPECT_EQ(open("none", O_RDONLY), ENOENT);
    EXPECT_EQ(open("none/file", O_RDONLY), ENOENT);
    EXPECT_EQ(open("a/b/file/x", O_RDONLY), ENOTDIR);
  });
}

TEST_P(OwnFiles, NoLinkIsFollowedAnywhereInAPath) {
  run([&] {
    for (int flags :
         {O_RDONLY, O_RDWR | O_CREAT, O_WRONLY | O_TRUNC, O_WRONLY | O_APPEND, O_PATH, O_PATH | O_NOFOLLOW}) {
      EXPECT_EQ(open("to_file", flags), ELOOP) << flags;
      EXPECT_EQ(open("to_dir/file", flags), ELOOP) << flags;
      EXPECT_EQ(open("to_dir/b/file", flags), ELOOP) << flags;
      EXPECT_EQ(open("to_a/b/file", flags), ELOOP) << flags;
      EXPECT_EQ(open("dangling", flags), ELOOP) << flags;
    }
    for (const char* path : {"to_dir", "to_a", "to_dir/b"})
      EXPECT_EQ(open(path, O_RDONLY | O_DIRECTORY), ELOOP) << path;
    expect_precious();
    EXPECT_FALSE(*find_stat_at(AT_FDCWD, dir_ / "own/nothing", AT_SYMLINK_NOFOLLOW));
  });
}

TEST_P(OwnFiles, NoPathLeadsOut) {
  run([&] {
    EXPECT_EQ(open("../elsewhere/file", O_RDONLY), EXDEV);
    EXPECT_EQ(open("a/../../elsewhere/file", O_RDONLY), EXDEV);
    EXPECT_EQ(open(dir_ / "elsewhere/file", O_RDONLY), EXDEV);
  });
}

TEST_P(OwnFiles, WhatIsNoFileIsRefusedAndNeverWaitedFor) {
  run([&] {
    for (int flags : {O_RDONLY, O_WRONLY, O_RDWR, O_RDWR | O_CREAT | O_TRUNC}) {
      auto fifo = own_.open("fifo", flags, 0600);
      ASSERT_FALSE(fifo) << flags;
      EXPECT_EQ(fifo.error().kind, ErrorKind::kCorrupt) << flags;
      EXPECT_EQ(fifo.error().message(), "open '" + (dir_ / "own/fifo") + "': not a regular file");
    }
    EXPECT_EQ(own_.open("a", O_RDONLY).error().kind, ErrorKind::kCorrupt);
    EXPECT_EQ(open("a/b/file", O_RDONLY | O_DIRECTORY), ENOTDIR);
  });
}

TEST_P(OwnFiles, NamesAreChangedAndRemovedHereOnly) {
  run([&] {
    for (const char* path : {"to_dir/b", "to_a/b"}) {
      EXPECT_EQ(own_.remove(path).error().code, ELOOP) << path;
      EXPECT_EQ(own_.list(path).error().code, ELOOP) << path;
      EXPECT_EQ(own_.find_stat(path).error().code, ELOOP) << path;
      EXPECT_EQ(own_.make_dir(std::string(path) + "/new", 0700).error().code, ELOOP) << path;
      EXPECT_EQ(own_.sync(path).error().code, ELOOP) << path;
    }
    EXPECT_EQ(own_.unlink("to_dir/file").error().code, ELOOP);
    EXPECT_EQ(own_.rename("to_dir/file", "a/stolen").error().code, ELOOP);
    EXPECT_EQ(own_.rename("a/b/file", "to_dir/file").error().code, ELOOP);
    EXPECT_EQ(own_.list("to_dir").error().code, ELOOP);
    EXPECT_EQ(own_.make_dir("to_dir", 0700).error().code, ENOTDIR);
    EXPECT_TRUE(own_.make_dir("a", 0700));
    EXPECT_EQ(own_.unlink("..").error().code, EINVAL);
    expect_precious();

    // A link itself goes, and a tree of ours with links in it.
    EXPECT_TRUE(S_ISLNK((*own_.find_stat("to_file"))->st_mode));
    EXPECT_TRUE(own_.remove("to_dir"));
    EXPECT_TRUE(own_.unlink("to_file"));
    EXPECT_TRUE(own_.rename("a/b/file", "a/moved"));
    EXPECT_TRUE(own_.sync("a"));
    EXPECT_TRUE(own_.sync("a/moved"));
    EXPECT_EQ(own_.rename("a/moved", "a/b", RENAME_NOREPLACE).error().code, EEXIST);
    EXPECT_TRUE(own_.remove("a"));
    EXPECT_FALSE(*own_.find_stat("a"));
    EXPECT_TRUE(own_.remove("a"));
    expect_precious();
  });
}

}  // namespace
}  // namespace layerfs
