// SPDX-License-Identifier: Apache-2.0
#include "fs/mount/control.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "fs/mount/control_server.h"
#include "fs/tree/memory_tree.h"
#include "fs/upper/memory_upper.h"
#include "tests/base/scratch_dir.h"

namespace layerfs::mount {
namespace {

class NoBlobs final : public tree::BlobSource {
 public:
  Result<tree::Blob> open(const Digest&) const override { return errno_error(ENOENT); }
};

class ControlTest : public testing::Test {
 protected:
  void SetUp() override {
    auto made = unionfs::UnionFs::make(std::make_shared<tree::MemoryTree>(), std::make_shared<NoBlobs>(),
                                       upper::make_memory_upper(), {});
    ASSERT_TRUE(made) << made.error().message();
    fs_ = std::move(*made);
    // Longer than a socket's address can be.
    directory_ = scratch_.path() + "/" + std::string(120, 'd');
    std::filesystem::create_directory(directory_);
  }

  std::unique_ptr<ControlServer> start() {
    auto server = ControlServer::start(directory_, *fs_, [] { return std::string(R"({"pid":1})"); });
    EXPECT_TRUE(server) << server.error().message();
    return server ? std::move(*server) : nullptr;
  }

  Result<unionfs::Entry> make_file(const std::string& name) {
    return fs_->mknod(tree::kRootIno, name, S_IFREG | 0644, 0, {});
  }

  ScratchDir scratch_;
  std::string directory_;
  std::unique_ptr<unionfs::UnionFs> fs_;
};

TEST_F(ControlTest, NobodyListeningIsNoError) {
  auto frozen = freeze_upper(directory_);
  ASSERT_TRUE(frozen) << frozen.error().message();
  EXPECT_FALSE(*frozen);
}

TEST_F(ControlTest, StatsAreAnswered) {
  auto server = start();
  auto stats = mount_stats(directory_);
  ASSERT_TRUE(stats) << stats.error().message();
  EXPECT_EQ(*stats, R"({"pid":1})");
}

TEST_F(ControlTest, FreezeHoldsChangesBackUntilTheConnectionCloses) {
  auto server = start();
  auto frozen = freeze_upper(directory_);
  ASSERT_TRUE(frozen && *frozen);
  std::atomic<bool> made = false;
  std::thread writer([&] {
    EXPECT_TRUE(make_file("held-back"));
    made = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_FALSE(made);
  EXPECT_TRUE(fs_->getattr(tree::kRootIno));  // reading goes on
  frozen->reset();
  writer.join();
  EXPECT_TRUE(made);
}

TEST_F(ControlTest, OnlyOneFreezesAtATime) {
  auto server = start();
  auto first = freeze_upper(directory_);
  ASSERT_TRUE(first && *first);
  auto second = freeze_upper(directory_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, EBUSY);
  first->reset();
  // The server sees the end of the first connection some time later.
  for (int i = 0; i < 200; ++i) {
    second = freeze_upper(directory_);
    if (second) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_TRUE(second && *second);
}

TEST_F(ControlTest, TheEndOfTheServerThaws) {
  auto server = start();
  auto frozen = freeze_upper(directory_);
  ASSERT_TRUE(frozen && *frozen);
  EXPECT_TRUE(check_frozen(*frozen));
  server.reset();
  EXPECT_FALSE(check_frozen(*frozen));  // for a commit that is under way
  EXPECT_TRUE(make_file("after"));
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/control"));
}

TEST_F(ControlTest, ASocketThatADeadServerLeftIsReplaced) {
  {
    auto server = start();
  }
  std::ofstream(directory_ + "/control") << "left";
  auto server = start();
  auto stats = mount_stats(directory_);
  ASSERT_TRUE(stats) << stats.error().message();
  EXPECT_FALSE(stats->empty());
}

}  // namespace
}  // namespace layerfs::mount
