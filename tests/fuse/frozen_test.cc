// SPDX-License-Identifier: Apache-2.0
// A mount that is frozen, as for a commit: changes wait, and hold up no reader, however many they are. On a
// real mount in this process. Skipped where nothing may be mounted.
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "fs/fuse/fuse_server.h"
#include "fs/tree/memory_blobs.h"
#include "fs/tree/memory_tree.h"
#include "fs/upper/memory_upper.h"
#include "tests/base/scratch_dir.h"
#include "tests/base/time_bound.h"

namespace layerfs::fuse {
namespace {

using namespace std::chrono_literals;

class Frozen : public testing::Test {
 protected:
  static constexpr int kWriters = 64;
  static constexpr std::size_t kBytes = 100'000;

  void SetUp() override {
    if (::geteuid() != 0 || ::access("/dev/fuse", R_OK | W_OK) != 0)
      GTEST_SKIP() << "needs root and /dev/fuse";
    auto made = unionfs::UnionFs::make(std::make_shared<tree::MemoryTree>(),
                                       std::make_shared<tree::MemoryBlobs>(), upper::make_memory_upper(), {});
    ASSERT_TRUE(made) << made.error().message();
    fs_ = std::move(*made);
    mountpoint_ = scratch_ / "mnt";
    std::filesystem::create_directory(mountpoint_);
    FuseOptions options;
    options.threads = 2;
    auto server = FuseServer::mount(mountpoint_, options, *fs_);
    if (!server && server.error().code == EPERM) GTEST_SKIP() << server.error().message();
    ASSERT_TRUE(server) << server.error().message();
    server_ = std::move(*server);
    serving_ = std::thread([this] { served_ = server_->serve().has_value(); });
    for (int i = 0; i < kWriters; ++i) {
      files_.emplace_back(::open(file(i).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
      ASSERT_TRUE(files_.back());
    }
    struct stat info{};
    ASSERT_EQ(::stat(mountpoint_.c_str(), &info), 0);
    connections_ = mount_connections();
    if (!connections_) GTEST_SKIP() << "needs to mount fusectl";
    connection_ = fmt::format("/proc/self/fd/{}/{}", connections_.get(), minor(info.st_dev));
    ASSERT_EQ(::access(connection_.c_str(), F_OK), 0) << connection_;
  }
  void TearDown() override {
    if (is_frozen_) thaw();
    for (std::thread& writer : writers_) writer.join();
    files_.clear();
    if (server_) server_->unmount();
    if (serving_.joinable()) serving_.join();
  }

  /// What /sys/fs/fuse/connections shows where it is mounted, here at no name. Empty: not allowed.
  static Fd mount_connections() {
    const Fd type(static_cast<int>(::syscall(SYS_fsopen, "fusectl", FSOPEN_CLOEXEC)));
    if (!type || ::syscall(SYS_fsconfig, type.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0)
      return Fd();
    return Fd(static_cast<int>(::syscall(SYS_fsmount, type.get(), FSMOUNT_CLOEXEC, 0)));
  }
  std::string file(int i) const { return fmt::format("{}/file {}", mountpoint_, i); }
  void freeze() {
    ASSERT_TRUE(fs_->freeze());
    is_frozen_ = true;
  }
  void thaw() {
    fs_->thaw();
    is_frozen_ = false;
  }
  /// Starts one change on each file, of several kinds, and returns when the kernel waits for all of them.
  void start_writers() {
    for (int i = 0; i < kWriters; ++i)
      writers_.emplace_back([this, i] {
        const int fd = files_[static_cast<std::size_t>(i)].get();
        const std::string bytes(kBytes, static_cast<char>('a' + i % 26));
        const bool done = i % 4 == 0   ? ::fchmod(fd, 0640) == 0
                          : i % 4 == 1 ? ::ftruncate(fd, 77) == 0
                          : i % 4 == 2 ? ::fsetxattr(fd, "user.a", "b", 1, 0) == 0
                                       : ::pwrite(fd, bytes.data(), bytes.size(), 0) == ssize_t{kBytes};
        ++(done ? succeeded_ : failed_);
      });
    int waiting = 0;
    while (waiting < kWriters && succeeded_ + failed_ == 0) {
      std::ifstream(connection_ + "/waiting") >> waiting;
      std::this_thread::yield();
    }
    ASSERT_EQ(succeeded_ + failed_, 0) << "a change did not wait";
  }
  /// Asks the server, which the kernel can't do for it.
  void expect_readers_go_on() {
    auto read = std::async(std::launch::async, [this] {
      for (int i = 0; i < 20; ++i) {
        struct stat info{};
        if (::stat(fmt::format("{}/no such file {}", mountpoint_, i).c_str(), &info) == 0) return false;
        struct statx fresh{};
        if (::statx(AT_FDCWD, mountpoint_.c_str(), AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &fresh) != 0)
          return false;
      }
      return true;
    });
    const bool in_time = read.wait_for(patience(20s)) == std::future_status::ready;
    EXPECT_TRUE(in_time) << "readers wait with the writers";
    if (!in_time) thaw();  // or the test would not end
    EXPECT_TRUE(read.get());
  }

  ScratchDir scratch_;
  std::string mountpoint_;
  Fd connections_;
  std::string connection_;
  std::unique_ptr<unionfs::UnionFs> fs_;
  std::unique_ptr<FuseServer> server_;
  std::thread serving_;
  bool served_ = false;
  bool is_frozen_ = false;
  std::vector<Fd> files_;
  std::vector<std::thread> writers_;
  std::atomic<int> succeeded_ = 0;
  std::atomic<int> failed_ = 0;
};

TEST_F(Frozen, WritersThatWaitHoldUpNoReader) {
  for (int round = 0; round < 2 && !HasFatalFailure(); ++round) {
    succeeded_ = 0;
    freeze();
    start_writers();
    if (HasFatalFailure()) return;
    expect_readers_go_on();
    EXPECT_EQ(succeeded_ + failed_, 0);
    if (is_frozen_) thaw();
    for (std::thread& writer : writers_) writer.join();
    writers_.clear();
    EXPECT_EQ(succeeded_, kWriters);
  }
  for (int i = 0; i < kWriters; ++i) {
    struct stat info{};
    ASSERT_EQ(::fstat(files_[static_cast<std::size_t>(i)].get(), &info), 0);
    if (i % 4 == 0) {
      EXPECT_EQ(info.st_mode & 07777, 0640U);
    }
    if (i % 4 == 1) {
      EXPECT_EQ(info.st_size, 77);
    }
    if (i % 4 == 2) {
      EXPECT_EQ(::fgetxattr(files_[static_cast<std::size_t>(i)].get(), "user.a", nullptr, 0), 1);
    }
    if (i % 4 != 3) continue;
    EXPECT_EQ(info.st_size, ssize_t{kBytes});
    auto bytes = std::string(kBytes, '\0');
    std::ifstream(file(i)).read(bytes.data(), ssize_t{kBytes});
    EXPECT_EQ(bytes, std::string(kBytes, static_cast<char>('a' + i % 26)));
  }
}

// What has no answer when the connection ends fails, and the server ends once the file system is thawed.
TEST_F(Frozen, WritersThatWaitEndWithTheConnection) {
  freeze();
  start_writers();
  if (HasFatalFailure()) return;
  expect_readers_go_on();
  std::ofstream(connection_ + "/abort") << "1" << std::flush;
  for (std::thread& writer : writers_) writer.join();
  writers_.clear();
  EXPECT_EQ(failed_, kWriters);
  for (Fd& file : files_) ::close(file.release());  // which fails too
  thaw();
  serving_.join();
  EXPECT_TRUE(served_);
}

}  // namespace
}  // namespace layerfs::fuse
