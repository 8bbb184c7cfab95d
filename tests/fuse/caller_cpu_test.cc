// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/caller_cpu.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/types.h>
#include <unistd.h>

#include <limits>

#include "fs/base/sys_file.h"

namespace layerfs::fuse {
namespace {

const Fd proc = *open_file("/proc", O_PATH | O_DIRECTORY);

cpu_set_t allowed_now() {
  cpu_set_t set;
  EXPECT_EQ(::sched_getaffinity(0, sizeof set, &set), 0);
  return set;
}

void note_often(CallerCpu& cpu, pid_t caller) {
  for (int i = 0; i < 32; ++i) cpu.note(static_cast<std::uint32_t>(caller));
}

TEST(CallerCpu, KeepsTheThreadWithItsOnlyCallerAndLetsGoOfIt) {
  cpu_set_t before = allowed_now();
  {
    CallerCpu cpu(proc.get());
    note_often(cpu, ::gettid());
    cpu_set_t with_caller = allowed_now();
    EXPECT_EQ(CPU_COUNT(&with_caller), 1);
    EXPECT_TRUE(CPU_ISSET(static_cast<std::size_t>(::sched_getcpu()), &with_caller));
    // One request of somebody else is no reason to go; several are.
    cpu.note(1);
    cpu_set_t after_one = allowed_now();
    EXPECT_EQ(CPU_COUNT(&after_one), 1);
    for (int i = 0; i < 8; ++i) cpu.note(static_cast<std::uint32_t>(2 + i % 2));
    cpu_set_t after_many = allowed_now();
    EXPECT_TRUE(CPU_EQUAL(&after_many, &before));
    note_often(cpu, ::gettid());
  }
  cpu_set_t after = allowed_now();
  EXPECT_TRUE(CPU_EQUAL(&after, &before));
}

TEST(CallerCpu, StaysFreeForRequestsWithoutACallerAndForOneThatIsGone) {
  cpu_set_t before = allowed_now();
  CallerCpu cpu(proc.get());
  note_often(cpu, 0);
  note_often(cpu, std::numeric_limits<pid_t>::max());
  cpu_set_t after = allowed_now();
  EXPECT_TRUE(CPU_EQUAL(&after, &before));
}

TEST(CallerCpu, StaysFreeWithoutAProcfs) {
  cpu_set_t before = allowed_now();
  CallerCpu cpu(-1);
  note_often(cpu, ::gettid());
  cpu_set_t after = allowed_now();
  EXPECT_TRUE(CPU_EQUAL(&after, &before));
}

TEST(CallerCpu, NeverLeavesTheProcessorsThatItMayUse) {
  cpu_set_t before = allowed_now();
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<std::size_t>(::sched_getcpu()), &one);
  ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
  {
    CallerCpu cpu(proc.get());
    note_often(cpu, 1);  // wherever it is
    cpu_set_t during = allowed_now();
    EXPECT_TRUE(CPU_EQUAL(&during, &one));
  }
  ASSERT_EQ(::sched_setaffinity(0, sizeof before, &before), 0);
}

}  // namespace
}  // namespace layerfs::fuse
