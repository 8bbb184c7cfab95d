// SPDX-License-Identifier: Apache-2.0
// FuseServer over a union in memory, on a real mount in this process: the life of a session, and many threads
// at once (this runs under the thread sanitizer too). Skipped where nothing may be mounted.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <seccomp.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
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

enum class Transport : std::uint8_t { kDevice, kIoUring };

/// Requests by io_uring have to be allowed by root, until the machine starts again.
bool allow_io_uring() {
  constexpr const char* kAllowed = "/sys/module/fuse/parameters/enable_uring";
  if (!stdfs::exists(kAllowed)) return false;
  std::ofstream(kAllowed) << "Y\n";
  return std::ifstream(kAllowed).get() == 'Y';
}

/// Threads of this process that answer requests of a ring.
std::size_t count_ring_threads() {
  std::size_t count = 0;
  for (const auto& task : stdfs::directory_iterator("/proc/self/task")) {
    std::string name;
    std::getline(std::ifstream(task.path() / "comm"), name);
    if (name.starts_with("fuse-ring")) ++count;
  }
  return count;
}

class SessionTest : public testing::TestWithParam<Transport> {
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
    if (wants_rings() && (!libfuse_description().contains("+io_uring") || !allow_io_uring()))
      GTEST_SKIP() << "there is no FUSE over io_uring";
    auto mounted = mount();
    if (!mounted && mounted.error().code == EPERM) GTEST_SKIP() << mounted.error().message();
    ASSERT_TRUE(mounted) << mounted.error().message();
  }

  static bool wants_rings() { return GetParam() == Transport::kIoUring; }

  Result<void> mount() {
    FuseOptions options;
    options.source = "layerfs:test";
    options.io_uring = wants_rings();
    LAYERFS_ASSIGN(server_, FuseServer::mount(mountpoint_, options, *fs_));
    serving_ = std::thread([this] { served_ = server_->serve(); });
    return {};
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

TEST_P(SessionTest, ShowsTheTreeAndTakesChanges) {
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

TEST_P(SessionTest, ThreadsOfRingsAnswerWhereThatIsWanted) {
  EXPECT_TRUE(stdfs::exists(at("etc")));
  EXPECT_EQ(count_ring_threads() > 0, wants_rings());
}

TEST_P(SessionTest, LargeReadsAndWritesComeWhole) {
  std::string text(3 << 20, 'x');
  for (std::size_t i = 0; i < text.size(); i += 7) text[i] = static_cast<char>(i / 7);
  std::ofstream(at("large"), std::ios::binary) << text;
  // As the server has it, not as the kernel's pages do.
  server_->unmount();
  serving_.join();
  server_.reset();
  ASSERT_TRUE(mount());
  std::ifstream reading(at("large"), std::ios::binary);
  std::string got((std::istreambuf_iterator<char>(reading)), {});
  EXPECT_TRUE(got == text) << got.size();
}

/// For this thread, and those that it starts.
void forbid_io_uring() {
  scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
  ASSERT_NE(filter, nullptr);
  ASSERT_EQ(seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SYS_io_uring_setup, 0), 0);
  ASSERT_EQ(seccomp_load(filter), 0);
  seccomp_release(filter);
}

TEST_P(SessionTest, ServesByTheDeviceWhereIoUringIsForbidden) {
  server_->unmount();
  serving_.join();
  server_.reset();
  Result<void> mounted;
  std::thread([&] {
    forbid_io_uring();
    mounted = mount();
  }).join();
  ASSERT_TRUE(mounted) << mounted.error().message();
  EXPECT_TRUE(stdfs::exists(at("etc")));
  EXPECT_EQ(count_ring_threads(), 0U);
}

TEST_P(SessionTest, UnmountEndsServingWithoutAnError) {
  server_->unmount();
  serving_.join();
  EXPECT_TRUE(served_) << served_.error().message();
  EXPECT_FALSE(stdfs::exists(at("etc")));
}

TEST_P(SessionTest, StopWakesIdleThreads) {
  EXPECT_TRUE(stdfs::exists(at("etc")));
  server_->stop();
  serving_.join();
  EXPECT_TRUE(served_);
}

TEST_P(SessionTest, ABusyMountIsDetachedAndServedToItsEnd) {
  int fd = ::open(at("etc/empty").c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  server_->unmount();
  EXPECT_FALSE(stdfs::exists(at("etc")));
  EXPECT_EQ(::pwrite(fd, "late", 4, 0), 4);
  ::close(fd);
  serving_.join();
  EXPECT_TRUE(served_);
}

TEST_P(SessionTest, ManyThreadsAtOnce) {
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

INSTANTIATE_TEST_SUITE_P(Transports, SessionTest, testing::Values(Transport::kDevice, Transport::kIoUring),
                         [](const auto& of) {
                           return of.param == Transport::kDevice ? "Device" : "IoUring";
                         });

}  // namespace
}  // namespace layerfs::fuse
