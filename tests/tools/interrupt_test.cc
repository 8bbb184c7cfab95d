// SPDX-License-Identifier: Apache-2.0
#include "tools/cmd_interrupt.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

namespace layerfs::tools {
namespace {

constexpr std::chrono::milliseconds kCleanUp{4500};  // longer than the watch's patience

/// The wait status of a process that is told to end and then works on for a while.
template <class Work>
int status_of(Work work) {
  pid_t child = ::fork();
  if (child == 0) {
    InterruptWatch watch;
    ::kill(::getpid(), SIGTERM);
    work(watch);
    ::_exit(7);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return status;
}

void meet(const InterruptWatch& watch) {
  while (watch.check()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

TEST(InterruptWatch, WhoHasMetTheSignalHasTimeToCleanUp) {
  int status = status_of([](const InterruptWatch& watch) {
    meet(watch);
    std::this_thread::sleep_for(kCleanUp);
  });
  ASSERT_TRUE(WIFEXITED(status)) << status;
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

TEST(InterruptWatch, AFurtherSignalEndsTheCleaningUp) {
  int status = status_of([](const InterruptWatch& watch) {
    meet(watch);
    std::this_thread::sleep_for(kCleanUp);
    ::kill(::getpid(), SIGTERM);
    std::this_thread::sleep_for(kCleanUp);
  });
  ASSERT_TRUE(WIFSIGNALED(status)) << status;
  EXPECT_EQ(WTERMSIG(status), SIGTERM);
}

TEST(InterruptWatch, WhoDoesNotMeetItIsEnded) {
  int status = status_of([](const InterruptWatch&) { std::this_thread::sleep_for(kCleanUp); });
  ASSERT_TRUE(WIFSIGNALED(status)) << status;
  EXPECT_EQ(WTERMSIG(status), SIGTERM);
}

}  // namespace
}  // namespace layerfs::tools
