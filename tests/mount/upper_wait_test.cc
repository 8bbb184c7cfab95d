// SPDX-License-Identifier: Apache-2.0
#include "fs/mount/upper_wait.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <thread>

#include "fs/base/sys_file.h"
#include "fs/mount/server_process.h"
#include "tests/base/scratch_dir.h"

namespace layerfs::mount {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kHeld{400};  // more than five servers that die at once live

class UpperWait : public testing::Test {
 protected:
  void SetUp() override {
    request_.upper_dir = scratch_.path();
    request_.upper_id = "an-upper";
    request_.fuse.source = "layerfs:an-upper";
    auto lock = open_file(scratch_.path() + "/lock", O_RDWR | O_CREAT, 0600);
    ASSERT_TRUE(lock);
    lock_ = std::move(*lock);
    auto held = lock_file(lock_.get(), LockMode::kExclusive, LockWait::kNo);
    ASSERT_TRUE(held && *held);
  }

  ScratchDir scratch_;
  MountRequest request_;
  Fd lock_;
};

TEST_F(UpperWait, WaitsForAServerThatIsOnItsWayOut) {
  for (OpenFor what : {OpenFor::kStart, OpenFor::kTakeover}) {
    if (!lock_) SetUp();
    auto began = Clock::now();
    std::thread server([&] {
      std::this_thread::sleep_for(kHeld);
      lock_.reset();
    });
    auto upper = open_upper(request_, what, -1);
    auto took = Clock::now() - began;
    server.join();
    ASSERT_TRUE(upper) << upper.error().message();
    EXPECT_GE(took, kHeld);
  }
}

TEST_F(UpperWait, ATakeoverOfAMountThatIsGoneGivesUp) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  Fd device(ends[1]);
  ::close(ends[0]);  // the writing end of a pipe without readers has an error, as the device of a dead mount
  auto upper = open_upper(request_, OpenFor::kTakeover, device.get());
  ASSERT_FALSE(upper);
  EXPECT_EQ(upper.error().code, ENODEV);
}

TEST_F(UpperWait, ATakeoverThatWaitsEndsByASignal) {
  sigset_t set = ending_signals();
  sigset_t before;
  ASSERT_EQ(::pthread_sigmask(SIG_BLOCK, &set, &before), 0);
  ::pthread_kill(::pthread_self(), SIGTERM);
  std::atomic<bool> ended{false};
  std::thread server([&] {  // lets go, so that a wait that hears nothing ends too
    for (int i = 0; i < 3000 && !ended; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    lock_.reset();
  });
  auto upper = open_upper(request_, OpenFor::kTakeover, -1);
  ended = true;
  server.join();
  timespec now{};
  ::sigtimedwait(&set, nullptr, &now);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ASSERT_FALSE(upper);
  EXPECT_EQ(upper.error().code, ENODEV);
}

TEST_F(UpperWait, TheHolderIsNamed) {
  std::string holder = describe_lock_holder(scratch_.path() + "/lock");
  std::string known = "process " + std::to_string(::getpid()) + " (";
  // Where the file system shows another device number in /proc/locks, nobody is named.
  if (holder != "another process") {
    EXPECT_EQ(holder.substr(0, known.size()), known);
  }
  lock_.reset();
  EXPECT_EQ(describe_lock_holder(scratch_.path() + "/lock"), "another process");
  EXPECT_EQ(describe_lock_holder(scratch_.path() + "/none"), "another process");
}

TEST(LockHolder, IsFoundAmongTheLocksOfAll) {
  constexpr std::string_view kLocks =
      "1: POSIX  ADVISORY  WRITE 11 08:02:70 0 EOF\n"
      "2: FLOCK  ADVISORY  WRITE 12 08:02:7 0 EOF\n"
      "2: -> FLOCK  ADVISORY  READ 13 08:02:70 0 EOF\n"
      "3: FLOCK  ADVISORY  READ 14 08:02:70 0 EOF\n"
      "4: FLOCK  ADVISORY  READ -1 08:02:71 0 EOF\n"
      "garbage\n: FLOCK 08:02:72";
  EXPECT_EQ(find_lock_holder(kLocks, "08:02:70"), 14);
  EXPECT_EQ(find_lock_holder(kLocks, "08:02:7"), 12);
  EXPECT_EQ(find_lock_holder(kLocks, "08:02:71"),
            std::nullopt);  // of a process that this namespace can't see
  EXPECT_EQ(find_lock_holder(kLocks, "08:02:72"), std::nullopt);
  EXPECT_EQ(find_lock_holder("", "08:02:70"), std::nullopt);
}

}  // namespace
}  // namespace layerfs::mount
