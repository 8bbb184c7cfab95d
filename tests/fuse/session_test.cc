// SPDX-License-Identifier: Apache-2.0
// FuseServer over a union in memory, on a real mount in this process: the life of a session, and many threads
// at once (this runs under the thread sanitizer too). Skipped where nothing may be mounted.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "fs/fuse/fuse_server.h"
#include "fs/tree/memory_tree.h"
#include "fs/upper/memory_upper.h"
#include "tests/base/scratch_dir.h"

namespace layerfs::fuse {
namespace {

namespace stdfs = std::filesystem;

class NoBlobs final : public tree::BlobSource {
 public:
  Result<tree::Blob> open(const Digest&) const override { return errno_error(ENOENT); }
};

std::shared_ptr<tree::MemoryTree> make_lower() {
  auto lower = std::make_shared<tree::MemoryTree>();
  tree::Node directory;
  directory.kind = tree::NodeKind::kDirectory;
  directory.mode = 0755;
  tree::Ino etc = lower->add_node(tree::kRootIno, "etc", directory, {}, {});
  tree::Node link;
  link.kind = tree::NodeKind::kSymlink;
  link.content = tree::ContentKind::kInline;
  link.mode = 0777;
  link.size = 6;
  lower->add_node(etc, "link", link, "target", {});
  tree::Node file;
  file.mode = 0644;
  lower->add_node(etc, "empty", file, {}, {});
  return lower;
}

class SessionTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0 || ::access("/dev/fuse", R_OK | W_OK) != 0)
      GTEST_SKIP() << "needs root and /dev/fuse";
    auto made =
        unionfs::UnionFs::make(make_lower(), std::make_shared<NoBlobs>(), upper::make_memory_upper(), {});
    ASSERT_TRUE(made) << made.error().message();
    fs_ = std::move(*made);
    mountpoint_ = scratch_ / "mnt";
    stdfs::create_directory(mountpoint_);
    FuseOptions options;
    options.source = "layerfs:test";
    auto server = FuseServer::mount(mountpoint_, options, *fs_);
    if (!server && server.error().code == EPERM) GTEST_SKIP() << server.error().message();
    ASSERT_TRUE(server) << server.error().message();
    server_ = std::move(*server);
    serving_ = std::thread([this] { served_ = server_->serve(); });
  }

  void TearDown() override {
    if (server_) server_->unmount();
    if (serving_.joinable()) serving_.join();
  }

  std::string at(const std::string& name) const { return mountpoint_ + "/" + name; }

  ScratchDir scratch_;
  std::string mountpoint_;
  std::unique_ptr<unionfs::UnionFs> fs_;
  std::unique_ptr<FuseServer> server_;
  std::thread serving_;
  Result<void> served_;
};

TEST_F(SessionTest, ShowsTheTreeAndTakesChanges) {
  EXPECT_EQ(stdfs::read_symlink(at("etc/link")), "target");
  std::ofstream(at("etc/empty")) << "no longer";
  std::ifstream reading(at("etc/empty"));
  std::string text;
  std::getline(reading, text);
  EXPECT_EQ(text, "no longer");
  stdfs::rename(at("etc"), at("moved"));
  EXPECT_TRUE(stdfs::exists(at("moved/empty")));
  struct statfs numbers{};
  ASSERT_EQ(::statfs(mountpoint_.c_str(), &numbers), 0);
  EXPECT_EQ(numbers.f_type, 0x65735546);  // FUSE_SUPER_MAGIC: what callers of mount programs look for
  EXPECT_EQ(numbers.f_namelen, 255);
}

TEST_F(SessionTest, UnmountEndsServingWithoutAnError) {
  server_->unmount();
  serving_.join();
  EXPECT_TRUE(served_) << served_.error().message();
  EXPECT_FALSE(stdfs::exists(at("etc")));
}

TEST_F(SessionTest, StopWakesIdleThreads) {
  EXPECT_TRUE(stdfs::exists(at("etc")));
  server_->stop();
  serving_.join();
  EXPECT_TRUE(served_);
}

TEST_F(SessionTest, ABusyMountIsDetachedAndServedToItsEnd) {
  int fd = ::open(at("etc/empty").c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  server_->unmount();
  EXPECT_FALSE(stdfs::exists(at("etc")));
  EXPECT_EQ(::pwrite(fd, "late", 4, 0), 4);
  ::close(fd);
  serving_.join();
  EXPECT_TRUE(served_);
}

TEST_F(SessionTest, ManyThreadsAtOnce) {
  constexpr int kThreads = 4;
  constexpr int kFiles = 40;
  std::vector<std::thread> threads;
  std::atomic<int> failures = 0;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      std::string own = at("own" + std::to_string(thread));
      if (::mkdir(own.c_str(), 0755) != 0) ++failures;
      for (int i = 0; i < kFiles; ++i) {
        std::string name = own + "/" + std::to_string(i);
        std::string shared = at("etc/" + std::to_string(thread) + "-" + std::to_string(i));
        std::ofstream(name) << name;
        if (::link(name.c_str(), shared.c_str()) != 0) ++failures;
        if (::chmod(shared.c_str(), 0600) != 0) ++failures;
        if (::rename(name.c_str(), at("etc/same").c_str()) != 0) ++failures;
        for (const auto& entry : stdfs::directory_iterator(at("etc"))) (void)entry;
        if (::unlink(shared.c_str()) != 0) ++failures;
      }
      if (::rmdir(own.c_str()) != 0) ++failures;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
  std::vector<std::string> left;
  for (const auto& entry : stdfs::directory_iterator(at("etc"))) left.push_back(entry.path().filename());
  std::sort(left.begin(), left.end());
  EXPECT_EQ(left, (std::vector<std::string>{"empty", "link", "same"}));
}

TEST(FuseServer, AFailedMountIsAnErrorAndLeavesNothing) {
  if (::geteuid() != 0 || ::access("/dev/fuse", R_OK | W_OK) != 0) GTEST_SKIP() << "needs root and /dev/fuse";
  auto made =
      unionfs::UnionFs::make(make_lower(), std::make_shared<NoBlobs>(), upper::make_memory_upper(), {});
  ASSERT_TRUE(made);
  auto server = FuseServer::mount("/nonexistent/layerfs", {}, **made);
  ASSERT_FALSE(server);
  EXPECT_EQ(server.error().code, ENOENT);
  EXPECT_NE(server.error().message().find("/nonexistent/layerfs"), std::string::npos);
}

TEST(FuseServer, DescribesItsLibrary) {
  EXPECT_TRUE(libfuse_description().starts_with("libfuse 3.")) << libfuse_description();
}

TEST(FuseServer, MountDataNamesTheDevice) {
  FuseOptions options;
  EXPECT_TRUE(mount_data(9, options).starts_with("fd=9,rootmode=40000,")) << mount_data(9, options);
  EXPECT_EQ(mount_data(9, options).find("allow_other"), std::string::npos);
  options.allow_other = true;
  EXPECT_NE(mount_data(9, options).find(",allow_other"), std::string::npos);
}

}  // namespace
}  // namespace layerfs::fuse
