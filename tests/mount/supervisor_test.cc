// SPDX-License-Identifier: Apache-2.0
// Servers are children that tell something by their link and then end.
#include "fs/mount/supervisor.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include "fs/base/function_ref.h"
#include "fs/base/sys_file.h"
#include "fs/mount/keeper_link.h"
#include "fs/mount/server_process.h"

namespace layerfs::mount {
namespace {

using End = Supervisor::End;

/// A handover with a descriptor that stands for the device.
fuse::Handover some_handover() {
  fuse::Handover handover;
  handover.device = std::move(*open_file("/dev/null", O_RDWR));
  handover.init = "the INIT message";
  return handover;
}

/// Forks a server that does `serve` with its end of the link and exits with what that returns.
void start(Supervisor& supervisor, FunctionRef<int(Fd& link)> serve) {
  auto ends = make_keeper_link();
  ASSERT_TRUE(ends) << ends.error().message();
  pid_t pid = ::fork();
  ASSERT_GE(pid, 0);
  if (pid == 0) {
    ends->first.reset();
    ::_exit(serve(ends->second));
  }
  supervisor.started(pid, std::move(ends->first));
}

constexpr auto kDie = [](Fd&) { return ::raise(SIGKILL); };
constexpr auto kTellAndDie = [](Fd& link) {
  return tell_keeper(link.get(), some_handover()) ? ::raise(SIGKILL) : 9;
};

TEST(Supervisor, TheEndOfAServerSaysWhetherItServed) {
  struct {
    int status;
    End end;
  } const cases[] = {
      {kServedExit, End::kServed}, {kServedUnwrittenExit, End::kServedUnwritten}, {1, End::kDied}};
  for (const auto& expected : cases) {
    Supervisor supervisor;
    EXPECT_FALSE(supervisor.is_running());
    start(supervisor, [&](Fd&) { return expected.status; });
    EXPECT_TRUE(supervisor.is_running());
    EXPECT_EQ(supervisor.reap(), expected.end);
    EXPECT_FALSE(supervisor.is_running());
    EXPECT_EQ(supervisor.has_died(), expected.end == End::kDied);
    EXPECT_EQ(supervisor.how_it_ended(), "ended with status " + std::to_string(expected.status));
  }
}

TEST(Supervisor, WhatAServerToldBeforeItDiedIsHeard) {
  Supervisor supervisor;
  start(supervisor, kTellAndDie);
  EXPECT_EQ(supervisor.reap(), End::kDied);
  EXPECT_EQ(supervisor.link(), -1);
  EXPECT_EQ(supervisor.how_it_ended(), "was killed by signal 9");
  ASSERT_TRUE(supervisor.can_replace());
  EXPECT_EQ(supervisor.handover().init, "the INIT message");
  supervisor.give_up();
  EXPECT_FALSE(supervisor.can_replace());
}

TEST(Supervisor, OneThatNeverAnsweredHasNoSuccessor) {
  Supervisor supervisor;
  start(supervisor, kDie);
  EXPECT_EQ(supervisor.reap(), End::kDied);
  EXPECT_TRUE(supervisor.has_died());
  EXPECT_FALSE(supervisor.can_replace());
}

/// A later server tells that it answers, without a device: the first one's is kept.
TEST(Supervisor, TheDeviceIsKeptThroughLaterServers) {
  Supervisor supervisor;
  start(supervisor, kTellAndDie);
  supervisor.reap();
  ASSERT_TRUE(supervisor.may_replace());
  start(supervisor, [](Fd& link) { return tell_keeper(link.get(), {}) ? 0 : 9; });
  EXPECT_FALSE(supervisor.has_died());
  supervisor.hear();
  EXPECT_GE(supervisor.link(), 0);
  supervisor.hear();
  EXPECT_EQ(supervisor.link(), -1);
  EXPECT_EQ(supervisor.reap(), End::kServed);
  EXPECT_FALSE(supervisor.has_died());
  EXPECT_EQ(supervisor.take_handover().init, "the INIT message");
  EXPECT_FALSE(supervisor.can_replace());
}

TEST(Supervisor, ThoseThatDieAtOnceAreGivenUp) {
  Supervisor supervisor;
  for (int death = 1; death <= RestartRule::kMostAtOnce; ++death) {
    start(supervisor, kDie);
    supervisor.reap();
    EXPECT_EQ(supervisor.may_replace(), death < RestartRule::kMostAtOnce) << death;
  }
  EXPECT_EQ(supervisor.why_not(), "died 5 times at once");
}

}  // namespace
}  // namespace layerfs::mount
