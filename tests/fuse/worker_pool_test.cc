// SPDX-License-Identifier: Apache-2.0
// WorkerPool with a pipe for the device: a byte is a request, its reader the worker that takes it.
#include "fs/fuse/worker_pool.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "fs/base/scope_exit.h"

namespace layerfs::fuse {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;
using Kind = WorkerPool::Kind;

template <class Condition>
bool comes_true(Condition condition, milliseconds patience = milliseconds(20'000)) {
  const auto end = Clock::now() + patience;
  while (!condition()) {
    if (Clock::now() > end) return false;
    std::this_thread::sleep_for(milliseconds(1));
  }
  return true;
}

/// A pool whose workers answer each byte of a pipe by doing `work`.
class Served {
 public:
  using Work = std::function<void(WorkerPool::Seat&, char)>;

  explicit Served(Work work, unsigned most = 3, WorkerPoolTuning tuning = {})
      : work_(std::move(work)),
        pool_(most, SIGUSR1, [this](Kind kind) { return start_thread(kind); }, tuning) {
    struct sigaction wake{};
    wake.sa_handler = [](int) {};
    ::sigaction(SIGUSR1, &wake, nullptr);
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    device_ = Fd(ends[0]);
    requests_ = Fd(ends[1]);
    EXPECT_TRUE(pool_.start());
    std::lock_guard lock(mutex_);  // who watches may start others at once
    threads_.emplace_back([this] {
      watcher_ = ::gettid();
      pool_.watch(device_.get());
    });
  }

  ~Served() {
    pool_.stop();
    requests_.reset();  // who reads sees the end
    for (;;) {
      std::thread thread;
      {
        std::lock_guard lock(mutex_);
        if (threads_.empty()) return;
        thread = std::move(threads_.back());
        threads_.pop_back();
      }
      thread.join();
    }
  }

  void ask(char what = 'r') { EXPECT_EQ(::write(requests_.get(), &what, 1), 1); }
  /// Whether everything asked was answered in time.
  bool answers(unsigned count) {
    return comes_true([&] { return answered_ >= count; });
  }
  unsigned workers(Kind kind) const { return started_[static_cast<std::size_t>(kind)]; }
  /// The policy of the worker that answered last.
  int last_policy() const { return policy_; }
  WorkerPool& pool() { return pool_; }
  /// The thread that watches.
  pid_t watcher() const {
    EXPECT_TRUE(comes_true([this] { return watcher_ != 0; }));
    return watcher_;
  }

 private:
  Result<void> start_thread(Kind kind) {
    ++started_[static_cast<std::size_t>(kind)];
    std::lock_guard lock(mutex_);
    threads_.emplace_back([this, kind] { serve(kind); });
    return {};
  }

  void serve(Kind kind) {
    WorkerPool::Seat seat(pool_, kind);
    while (seat.wait_for_turn()) {
      char what = 0;
      const ssize_t got = ::read(device_.get(), &what, 1);
      if (got <= 0) {
        seat.took_nothing();
        if (got == 0) return;
        continue;
      }
      seat.took_request();
      work_(seat, what);
      policy_ = ::sched_getscheduler(0);
      ++answered_;
      seat.answered();
    }
  }

  Work work_;
  Fd device_;
  Fd requests_;
  std::atomic<unsigned> answered_ = 0;
  std::atomic<int> policy_ = -1;
  std::atomic<pid_t> watcher_ = 0;
  std::array<std::atomic<unsigned>, 3> started_{};
  std::mutex mutex_;
  std::vector<std::thread> threads_;
  WorkerPool pool_;
};

void nothing(WorkerPool::Seat&, char) {}

std::chrono::nanoseconds processor_time_of_this_thread() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

/// What served 200 requests of one caller: the policy of who answered last, and workers by kind.
std::string who_serves_one_caller() {
  Served served(nothing);
  for (unsigned i = 1; i <= 200; ++i) {
    served.ask();
    if (!served.answers(i)) return "nobody";
  }
  return fmt::format("policy {}, {} quiet, {} ordinary", served.last_policy(), served.workers(Kind::kQuiet),
                     served.workers(Kind::kOrdinary));
}

TEST(WorkerPool, OneQuietWorkerIsEnoughForOneCaller) {
  const std::string right = fmt::format("policy {}, 1 quiet, 0 ordinary", SCHED_IDLE);
  std::string seen;
  // Others may keep the processors busy: then more is right. Not each of these times.
  for (int i = 0; i < 50 && seen != right; ++i) seen = who_serves_one_caller();
  EXPECT_EQ(seen, right);
}

TEST(WorkerPool, QuietWorkersKeepTheUsualClassOfDiskIo) {
  std::atomic<long> priority = -1;
  Served served([&](WorkerPool::Seat&, char) { priority = ::syscall(SYS_ioprio_get, 1, 0); });
  served.ask();
  ASSERT_TRUE(served.answers(1));
  EXPECT_EQ(priority >> 13, 2) << "IOPRIO_CLASS_BE";
}

/// A request 'w' waits until `released`, as for a disk.
struct Disk {
  std::atomic<bool> released = false;
  bool announces = false;
  void operator()(WorkerPool::Seat& seat, char what) {
    if (what != 'w') return;
    if (announces) seat.may_wait_for_disk();
    while (!released) std::this_thread::sleep_for(milliseconds(1));
  }
};

TEST(WorkerPool, AnotherReadsAtOnceWhereOneSaysThatItMayWait) {
  auto disk = std::make_shared<Disk>();
  disk->announces = true;
  // No look comes in time: what helps is the announcement.
  Served served([disk](auto& seat, char what) { (*disk)(seat, what); }, 3, {.tick = milliseconds(60'000)});
  ScopeExit release([&] { disk->released = true; });
  served.ask('w');
  served.ask();
  EXPECT_TRUE(served.answers(1));
  EXPECT_EQ(served.workers(Kind::kQuiet), 2U);
  EXPECT_TRUE(served.pool().is_quiet());
}

TEST(WorkerPool, AnotherReadsWhereAllAreFoundWaiting) {
  auto disk = std::make_shared<Disk>();
  Served served([disk](auto& seat, char what) { (*disk)(seat, what); });
  ScopeExit release([&] { disk->released = true; });
  served.ask('w');
  served.ask('w');
  served.ask();
  EXPECT_TRUE(served.answers(1));
  // Where others keep the processors busy, an ordinary user's pool goes on with ordinary ones.
  EXPECT_GE(served.workers(Kind::kQuiet) + served.workers(Kind::kOrdinary), 3U);
}

TEST(WorkerPool, NeverMoreWorkersThanThereMayBe) {
  auto disk = std::make_shared<Disk>();
  disk->announces = true;
  Served served([disk](auto& seat, char what) { (*disk)(seat, what); }, 2);
  ScopeExit release([&] { disk->released = true; });
  for (int i = 0; i < 4; ++i) served.ask('w');
  EXPECT_TRUE(comes_true([&] { return served.workers(Kind::kQuiet) == 2U; }));
  std::this_thread::sleep_for(milliseconds(100));
  EXPECT_EQ(served.workers(Kind::kQuiet), 2U);
  disk->released = true;
  EXPECT_TRUE(served.answers(4));
}

TEST(WorkerPool, WorkersThatSleepGoHomeAtTheEnd) {
  auto disk = std::make_shared<Disk>();
  disk->announces = true;
  {
    Served served([disk](auto& seat, char what) { (*disk)(seat, what); });
    served.ask('w');
    served.ask('w');
    ASSERT_TRUE(comes_true([&] { return served.workers(Kind::kQuiet) == 3; }));
    disk->released = true;
    ASSERT_TRUE(served.answers(2));
    std::this_thread::sleep_for(milliseconds(300));  // one of them reads by now
  }
}

/// Keeps the only processor that this process may use busy, in its own scheduling group.
class BusyProcessor {
 public:
  BusyProcessor() {
    ::sched_getaffinity(0, sizeof before_, &before_);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<std::size_t>(::sched_getcpu()), &one);
    ::sched_setaffinity(0, sizeof one, &one);
    for (int i = 0; i < 2; ++i)
      loops_.emplace_back([this] {
        while (!ends_) {
        }
      });
  }
  ~BusyProcessor() {
    ends_ = true;
    for (auto& loop : loops_) loop.join();
    ::sched_setaffinity(0, sizeof before_, &before_);
  }
  BusyProcessor(const BusyProcessor&) = delete;
  BusyProcessor& operator=(const BusyProcessor&) = delete;

 private:
  cpu_set_t before_{};
  std::atomic<bool> ends_ = false;
  std::vector<std::thread> loops_;
};

/// Uses up what SCHED_IDLE has a share of; the scheduler lets a thread that slept long run at once, once.
void compute(WorkerPool::Seat&, char) {
  const auto end = Clock::now() + milliseconds(1);
  while (Clock::now() < end) {
  }
}

void be_answered_beside_busy_loops(int expected_policy) {
  BusyProcessor busy;
  Served served(compute, 3, {.first_pause = milliseconds(60'000)});
  unsigned asked = 0;
  // Sooner or later a worker does not get the processor when it is wanted.
  ASSERT_TRUE(comes_true([&] {
    served.ask();
    return served.answers(++asked) && !served.pool().is_quiet();
  }));
  served.ask();
  ASSERT_TRUE(served.answers(++asked));
  served.ask();
  ASSERT_TRUE(served.answers(++asked));
  EXPECT_EQ(served.last_policy(), expected_policy);
}

TEST(WorkerPool, IsLoudWhereQuietWorkersGetNoProcessor) { be_answered_beside_busy_loops(SCHED_OTHER); }

/// In a process of its own that can't raise its threads.
TEST(WorkerPool, OrdinaryWorkersReadWhereQuietOnesCannotBeRaised) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become an ordinary user";
  const pid_t child = ::fork();
  if (child == 0) {
    if (::syscall(SYS_setresuid, 65534, 65534, 65534) != 0 || may_leave_sched_idle()) ::_exit(2);
    be_answered_beside_busy_loops(SCHED_OTHER);
    ::_exit(HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(WorkerPool, IsQuietAgainAfterThePause) {
  auto busy = std::make_unique<BusyProcessor>();
  Served served(compute, 3, {.first_pause = milliseconds(200)});
  unsigned asked = 0;
  ASSERT_TRUE(comes_true([&] {
    served.ask();
    return served.answers(++asked) && !served.pool().is_quiet();
  }));
  busy.reset();
  EXPECT_TRUE(comes_true([&] {
    served.ask();
    return served.answers(++asked) && served.pool().is_quiet() && served.last_policy() == SCHED_IDLE;
  }));
}

/// A set of one.
cpu_set_t only(int processor) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<std::size_t>(processor), &one);
  return one;
}

cpu_set_t allowed_to(pid_t thread) {
  cpu_set_t set;
  CPU_ZERO(&set);
  EXPECT_EQ(::sched_getaffinity(thread, sizeof set, &set), 0);
  return set;
}

/// The first two processors that this thread may use; empty where there is one.
std::vector<int> two_processors() {
  const cpu_set_t set = allowed_to(0);
  std::vector<int> found;
  for (int i = 0; i < CPU_SETSIZE && found.size() < 2; ++i)
    if (CPU_ISSET(static_cast<std::size_t>(i), &set)) found.push_back(i);
  return found.size() == 2 ? found : std::vector<int>();
}

/// A worker that keeps itself on a processor says that it may wait, and so starts the next one.
TEST(WorkerPool, AWorkerMayRunWhereTheProcessMayWhoeverStartsIt) {
  const auto processors = two_processors();
  if (processors.empty()) GTEST_SKIP() << "needs two processors";
  const cpu_set_t whole = allowed_to(0);
  auto disk = std::make_shared<Disk>();
  disk->announces = true;
  std::atomic<pid_t> second = 0;
  Served served(
      [&, disk](WorkerPool::Seat& seat, char what) {
        if (what == 'w') {
          const cpu_set_t one = only(processors[0]);
          ::sched_setaffinity(0, sizeof one, &one);
          seat.stays_on(processors[0]);
        } else {
          second = ::gettid();
        }
        (*disk)(seat, what);
      },
      3, {.tick = milliseconds(60'000)});
  ScopeExit release([&] { disk->released = true; });
  served.ask('w');
  served.ask();
  ASSERT_TRUE(served.answers(1));
  const cpu_set_t its = allowed_to(second);
  EXPECT_TRUE(CPU_EQUAL(&its, &whole));
}

/// watch() keeps off the processor that the first worker stays on, and then starts the next one.
TEST(WorkerPool, AWorkerThatWatchStartsMayRunWhereTheProcessMay) {
  const auto processors = two_processors();
  if (processors.empty()) GTEST_SKIP() << "needs two processors";
  const cpu_set_t whole = allowed_to(0);
  auto disk = std::make_shared<Disk>();
  std::atomic<pid_t> second = 0;
  Served served([&, disk](WorkerPool::Seat& seat, char what) {
    if (what == 'w') seat.stays_on(processors[0]);
    if (what == 'r') second = ::gettid();
    (*disk)(seat, what);
  });
  ScopeExit release([&] { disk->released = true; });
  served.ask('w');
  ASSERT_TRUE(comes_true([&] {
    const cpu_set_t its = allowed_to(served.watcher());
    return CPU_COUNT(&its) > 0 && !CPU_ISSET(static_cast<std::size_t>(processors[0]), &its);
  }));
  served.ask();
  ASSERT_TRUE(served.answers(1));
  const cpu_set_t its = allowed_to(second);
  EXPECT_TRUE(CPU_EQUAL(&its, &whole));
}

/// One worker gets no processor while the other answers all that comes.
TEST(WorkerPool, IsLoudWhereOneOfTwoWorkersGetsNoProcessor) {
  const auto processors = two_processors();
  if (processors.empty()) GTEST_SKIP() << "needs two processors";
  std::atomic<bool> ends = false;
  std::vector<std::thread> loops;
  for (int i = 0; i < 2; ++i)
    loops.emplace_back([&] {
      const cpu_set_t one = only(processors[0]);
      ::sched_setaffinity(0, sizeof one, &one);
      while (!ends) {
      }
    });
  ScopeExit join([&] {
    ends = true;
    for (auto& loop : loops) loop.join();
  });
  std::atomic<bool> answered = false;
  Served served(
      [&](WorkerPool::Seat& seat, char what) {
        if (what != 'w') return;
        seat.may_wait_for_disk();  // the other one reads from now on
        const cpu_set_t one = only(processors[0]);
        ::sched_setaffinity(0, sizeof one, &one);
        const auto begin = processor_time_of_this_thread();
        while (processor_time_of_this_thread() - begin < milliseconds(300)) {
        }
        answered = true;
      },
      2, {.tick = milliseconds(20), .first_pause = milliseconds(60'000)});
  served.ask('w');
  unsigned asked = 0;
  ASSERT_TRUE(comes_true([&] {
    served.ask();
    ++asked;
    std::this_thread::sleep_for(milliseconds(1));
    return !served.pool().is_quiet() || answered;
  }));
  EXPECT_FALSE(served.pool().is_quiet()) << "300 ms of SCHED_IDLE beside two loops were had without a raise";
  ASSERT_TRUE(served.answers(asked + 1));
}

/// The only worker that reads took its request while the pool was quiet, and gets no processor then.
TEST(WorkerPool, AnotherReadsWhereThePoolBecomesLoudWhileAllWait) {
  if (!may_leave_sched_idle()) GTEST_SKIP() << "this process's threads can't be raised";
  std::atomic<bool> released = false;
  Served served(
      [&](WorkerPool::Seat&, char what) {
        if (what != 'w') return;
        const auto begin = processor_time_of_this_thread();
        while (processor_time_of_this_thread() - begin < milliseconds(20)) {
        }
        while (!released) std::this_thread::sleep_for(milliseconds(1));
      },
      3, {.first_pause = milliseconds(60'000)});
  ScopeExit release([&] { released = true; });
  {
    BusyProcessor busy;
    served.ask('w');
    ASSERT_TRUE(comes_true([&] { return !served.pool().is_quiet(); }));
  }
  served.ask();
  EXPECT_TRUE(served.answers(1));
}

/// Looks that see no need for a second worker come while the first one waits for its disk.
TEST(WorkerPool, FewerReadOnlyWhereOneIsLeftThatReads) {
  auto disk = std::make_shared<Disk>();
  disk->announces = true;
  constexpr milliseconds kTick{100};
  Served served([disk](auto& seat, char what) { (*disk)(seat, what); }, 2, {.tick = kTick, .less_after = 1});
  ScopeExit release([&] { disk->released = true; });
  served.ask('w');
  // Without a reader a request waits for two looks; on a busy machine one may wait for a processor, once.
  unsigned asked = 0;
  EXPECT_TRUE(comes_true([&] {
    for (const auto begin = Clock::now(); Clock::now() - begin < 10 * kTick;) {
      const auto before = Clock::now();
      served.ask();
      if (!served.answers(++asked) || Clock::now() - before > kTick) return false;
    }
    return true;
  }));
  // A loud pool grows only.
  if (!served.pool().is_quiet()) GTEST_SKIP() << "others of this scheduling group keep all processors busy";
  disk->released = true;
  EXPECT_TRUE(served.answers(asked + 1));
}

TEST(WorkerPool, WhoEndsIsRaised) {
  if (!may_leave_sched_idle()) GTEST_SKIP() << "this process's threads can't be raised";
  auto disk = std::make_shared<Disk>();
  std::atomic<pid_t> worker = 0;
  Served served([&, disk](WorkerPool::Seat& seat, char what) {
    worker = ::gettid();
    (*disk)(seat, what);
  });
  ScopeExit release([&] { disk->released = true; });
  served.ask('w');
  ASSERT_TRUE(comes_true([&] { return worker != 0; }));
  EXPECT_EQ(::sched_getscheduler(worker), SCHED_IDLE);
  served.pool().stop();
  EXPECT_EQ(::sched_getscheduler(worker), SCHED_OTHER)
      << "it would wait for a processor while others wait for it";
}

TEST(WorkerPool, EndsBesideBusyLoops) {
  BusyProcessor busy;
  Served served(compute, 3);
  served.ask();
  ASSERT_TRUE(served.answers(1));
}

/// A thread with a ring: that it would run is all that others know of its requests.
class RingThread {
 public:
  explicit RingThread(WorkerPool& pool)
      : thread_([this, &pool] {
          WorkerPool::Seat seat(pool, Kind::kRing);
          id_ = ::gettid();
          while (!ends_) {
            if (!works_) {
              std::this_thread::sleep_for(milliseconds(1));
              continue;
            }
            compute(seat, 'r');  // as one that was woken and has not come to take its request
          }
        }) {}
  ~RingThread() {
    ends_ = true;
    thread_.join();
  }
  RingThread(const RingThread&) = delete;
  RingThread& operator=(const RingThread&) = delete;

  int policy() {
    EXPECT_TRUE(comes_true([this] { return id_ != 0; }));
    return ::sched_getscheduler(id_);
  }
  void work(bool on) { works_ = on; }

 private:
  std::atomic<pid_t> id_ = 0;
  std::atomic<bool> ends_ = false;
  std::atomic<bool> works_ = false;
  std::thread thread_;
};

TEST(WorkerPool, ARingIsQuietWhereItCanBeRaisedAndIsRaised) {
  if (!may_leave_sched_idle()) GTEST_SKIP() << "this process's threads can't be raised";
  auto busy = std::make_unique<BusyProcessor>();
  Served served(compute, 3, {.first_pause = milliseconds(500), .ring_tick = milliseconds(2)});
  RingThread ring(served.pool());
  EXPECT_EQ(ring.policy(), SCHED_IDLE);
  ring.work(true);
  // No request comes by the device.
  ASSERT_TRUE(comes_true([&] { return ring.policy() == SCHED_OTHER; }));
  busy.reset();
  EXPECT_TRUE(comes_true([&] { return ring.policy() == SCHED_IDLE; }));
}

/// In a process of its own that can't raise its threads.
TEST(WorkerPool, ARingIsOrdinaryWhereItCannotBeRaised) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become an ordinary user";
  const pid_t child = ::fork();
  if (child == 0) {
    if (::syscall(SYS_setresuid, 65534, 65534, 65534) != 0 || may_leave_sched_idle()) ::_exit(2);
    {
      Served served(nothing);
      RingThread ring(served.pool());
      EXPECT_EQ(ring.policy(), SCHED_OTHER);
    }
    ::_exit(HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(WorkerPool, LeavesAProcessAloneThatIsNotInTheUsualPolicy) {
  const pid_t child = ::fork();
  if (child == 0) {
    sched_param none{};
    if (::sched_setscheduler(0, SCHED_BATCH, &none) != 0) ::_exit(2);
    {
      Served served(nothing);
      served.ask();
      EXPECT_TRUE(served.answers(1));
      EXPECT_EQ(served.last_policy(), SCHED_BATCH);
      EXPECT_EQ(served.workers(Kind::kQuiet), 0U);
    }
    ::_exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace layerfs::fuse
