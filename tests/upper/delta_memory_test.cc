// SPDX-License-Identifier: Apache-2.0
// Memory that runs out in the middle of a change, at each allocation that it makes: nothing of it has
// happened, or the process dies and the log has all of it. Never half a change, which a checkpoint would make
// last.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <new>
#include <string>

#include "fs/upper/delta_open.h"
#include "tests/base/scratch_dir.h"
#include "tests/upper/delta_model.h"

// A sanitizer brings its own operator new, and may not link with a second.
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define LAYERFS_COUNTS_ALLOCATIONS 0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer) || __has_feature(memory_sanitizer)
#define LAYERFS_COUNTS_ALLOCATIONS 0
#endif
#endif
#ifndef LAYERFS_COUNTS_ALLOCATIONS
#define LAYERFS_COUNTS_ALLOCATIONS 1
#endif

namespace {
/// Allocations of this thread that still succeed; -1: all do.
[[maybe_unused]] thread_local long allocations_left = -1;
}  // namespace

#if LAYERFS_COUNTS_ALLOCATIONS
// Not inlined: the compiler would see free(3) of what new gave, and warn.
[[gnu::noinline]] void* operator new(std::size_t size) {
  if (allocations_left == 0) throw std::bad_alloc();
  if (allocations_left > 0) --allocations_left;
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
#endif

namespace layerfs::upper {
namespace {

using tree::Ino;

enum Ending : int { kDone = 0, kRefused = 2, kOther = 3 };

/// In a process of its own: opens the delta, makes the change with memory for `allocations`, closes.
int change_with(const std::string& path, const tree::ChangeSet& change, long allocations) {
  const pid_t child = fork();
  if (child == 0) {
    const struct rlimit no_core{};
    setrlimit(RLIMIT_CORE, &no_core);
    if (std::freopen("/dev/null", "w", stderr) == nullptr) _exit(kOther);
    DeltaTuning tuning;
    tuning.flush_period = std::chrono::hours(1);
    auto upper = open_delta_with(path, {}, tuning);
    if (!upper) _exit(kOther);
    int ending = kOther;
    try {
      allocations_left = allocations;
      const auto applied = (*upper)->apply(change);
      allocations_left = -1;
      ending = applied ? kDone : kOther;
    } catch (const std::bad_alloc&) {
      allocations_left = -1;
      ending = kRefused;
    }
    upper->reset();
    _exit(ending);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST(DeltaMemory, ThatRunsOutLeavesNothingOrAllOfAChange) {
  if (!LAYERFS_COUNTS_ALLOCATIONS) GTEST_SKIP() << "allocations cannot be made to fail under a sanitizer";
  const ScratchDir dir;
  const std::string before_path = dir / "before";
  test::Model before;
  test::ChangeMaker maker(5, 500);
  {
    const auto upper = open_delta_with(before_path, {}, {});
    ASSERT_TRUE(upper);
    for (std::uint64_t k = 1; k <= 10; ++k) {
      const tree::ChangeSet set = maker.next(k);
      ASSERT_TRUE((*upper)->apply(set));
      before.apply(set);
    }
  }
  tree::ChangeSet change;
  change.request = 4711;
  tree::Node node;
  node.object.bytes[0] = 1;
  change.changes.emplace_back(tree::PutNode{Ino{900}, node});
  change.changes.emplace_back(
      tree::PutEntry{Ino{901}, std::string(100, 'e'), Ino{900}, tree::NodeKind::kRegular});
  change.changes.emplace_back(tree::PutXattr{Ino{900}, "user.name", std::string(100, 'v')});
  change.changes.emplace_back(tree::PutTombstone{Ino{902}, std::string(90, 't')});
  change.changes.emplace_back(tree::EraseNode{Ino{903}});
  test::Model after = before;
  after.apply(change);
  int refused = 0;
  int died = 0;
  for (long allocations = 0;; ++allocations) {
    SCOPED_TRACE(allocations);
    ASSERT_LT(allocations, 200);
    const std::string path = dir / "delta";
    std::filesystem::remove_all(path);
    std::filesystem::copy(before_path, path, std::filesystem::copy_options::recursive);
    const int ending = change_with(path, change, allocations);
    const auto upper = open_delta_with(path, {.read_only = true}, {});
    ASSERT_TRUE(upper) << upper.error().message();
    if (ending == kDone) {
      EXPECT_EQ(test::dump(**upper), after.dump());
      break;
    }
    ASSERT_TRUE(ending == kRefused || ending == -SIGABRT) << ending;
    EXPECT_EQ(test::dump(**upper), ending == kRefused ? before.dump() : after.dump());
    ++(ending == kRefused ? refused : died);
  }
  EXPECT_GT(refused, 0);
  EXPECT_GT(died, 3);
}

}  // namespace
}  // namespace layerfs::upper
