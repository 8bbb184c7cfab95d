// SPDX-License-Identifier: Apache-2.0
#include "fs/mount/control.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "fs/base/sys_file.h"
#include "fs/mount/control_address.h"
#include "fs/mount/control_server.h"
#include "fs/tree/memory_tree.h"
#include "fs/upper/memory_upper.h"
#include "tests/base/scratch_dir.h"
#include "tests/base/time_bound.h"

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

TEST_F(ControlTest, TheEndOfTheMountThaws) {
  auto server = start();
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  Fd readers(ends[0]);
  Fd connection(ends[1]);  // without readers it has an error, as a connection without a mount
  ASSERT_TRUE(server->watch_connection(connection.get()));
  auto frozen = freeze_upper(directory_);  // by a client that does nothing more
  ASSERT_TRUE(frozen && *frozen);
  std::thread writer([&] { EXPECT_TRUE(make_file("held-back")); });
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_TRUE(check_frozen(*frozen));
  readers.reset();
  writer.join();
  EXPECT_FALSE(check_frozen(*frozen));
  EXPECT_TRUE(mount_stats(directory_));
}

TEST_F(ControlTest, TheEndOfTheMountThawsWhatWasFrozenBeforeItWasWatched) {
  auto server = start();
  auto frozen = freeze_upper(directory_);
  ASSERT_TRUE(frozen && *frozen);
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  Fd connection(ends[1]);
  ::close(ends[0]);
  ASSERT_TRUE(server->watch_connection(connection.get()));
  std::atomic<bool> made = false;
  std::thread writer([&] {
    EXPECT_TRUE(make_file("held-back"));
    made = true;
  });
  for (int i = 0; i < 1000 && !made; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_TRUE(made);
  frozen->reset();  // so that the writer ends in any case
  writer.join();
}

TEST_F(ControlTest, AMountThatIsGoneHasNoPagesUnderWay) {
  auto server = start();
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  Fd connection(ends[1]);
  ::close(ends[0]);
  ASSERT_TRUE(server->watch_connection(connection.get()));
  auto began = std::chrono::steady_clock::now();
  auto frozen = freeze_upper(directory_);
  EXPECT_LT(std::chrono::steady_clock::now() - began, patience(std::chrono::milliseconds(1500)));
  EXPECT_TRUE(frozen) << frozen.error().message();
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

TEST_F(ControlTest, AClientThatReadsNothingHoldsUpNobody) {
  auto server = start();
  auto frozen = freeze_upper(directory_);
  ASSERT_TRUE(frozen && *frozen);
  // Requests until neither the server's answers nor further requests fit into the socket's buffers.
  ASSERT_EQ(::fcntl(frozen->get(), F_SETFL, O_NONBLOCK), 0);
  int refused = 0;
  while (refused < 20) {
    if (::send(frozen->get(), "stats\n", 6, MSG_NOSIGNAL) == 6) continue;
    ++refused;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  auto stats = mount_stats(directory_);  // another client's
  ASSERT_TRUE(stats) << stats.error().message();
  EXPECT_EQ(*stats, R"({"pid":1})");
  server.reset();  // would wait for the thread
  EXPECT_TRUE(make_file("thawed"));
}

TEST_F(ControlTest, WhatAClientReadsLateIsWhole) {
  auto server = start();
  auto directory = open_file(directory_, O_PATH | O_DIRECTORY);
  ASSERT_TRUE(directory);
  Fd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ControlAddress address(directory->get());
  ASSERT_EQ(::connect(client.get(), address.get(), address.size()), 0);
  constexpr int kRequests = 40'000;  // more answers than fit into the buffers
  std::thread asking([&] {
    for (int i = 0; i < kRequests; ++i) ASSERT_EQ(::send(client.get(), "stats\n", 6, MSG_NOSIGNAL), 6);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  const std::string answer = "{\"pid\":1}\n";
  std::string got(answer.size() * kRequests, ' ');
  auto size = read_full(client.get(), std::as_writable_bytes(std::span(got)));
  asking.join();
  ASSERT_TRUE(size && *size == got.size());
  for (std::size_t at = 0; at < got.size(); at += answer.size())
    ASSERT_EQ(got.compare(at, answer.size(), answer), 0) << at;
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
