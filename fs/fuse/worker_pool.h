// SPDX-License-Identifier: Apache-2.0
// WorkerPool: which threads of a session wait for requests, and how the scheduler treats them.
//
// A request is two wake-ups: the caller wakes a worker, the worker's answer wakes the caller. A processor on
// which only threads of SCHED_IDLE run counts as idle (sched(7); sched_idle_cpu() in the kernel's fair.c,
// Linux 5.4): the answer wakes its caller where that slept, the caller takes the processor from the worker at
// once, and neither moves. A worker in SCHED_OTHER makes the processor busy, so the scheduler puts the caller
// on another one, whose wake-up is an interrupt.
//
// A quiet worker is one in SCHED_IDLE, an ordinary one is in SCHED_OTHER. The pool is quiet as long as quiet
// workers keep up, and loud for a while after they did not get a processor: that is where others of the same
// scheduling group (a session with autogroups, else a cgroup; sched(7)) keep all processors busy.
//
//   quiet --watch() finds a quiet worker that would run and can't--> loud --the pause is over--> quiet
//
// (1) As few workers as can do the work read the device: the first one, until it is seen that requests wait
//     while all of them are busy, or one says that it may wait for the disk. The others sleep in the pool.
//     Where they wait for each other's processors, and not for the disk, more than one for two processors
//     only move callers about.
// (2) In a loud pool quiet workers are raised to SCHED_OTHER where that is allowed (CAP_SYS_NICE,
//     RLIMIT_NICE). Where it is not, a thread can't come back from SCHED_IDLE: quiet workers sleep in the
//     pool, and ordinary ones, which exist from then on, read instead.
// (3) In a loud pool one more worker reads when the last one that waited has taken a request. In any pool one
//     more reads where requests wait and nobody reads.
// (4) The thread in watch() is ordinary, and so is whoever starts workers of Kind::kOrdinary.
// (5) A process that is not in SCHED_OTHER was put there by somebody: its pool is loud for ever and changes
//     no policy.
// (6) SCHED_IDLE would make a thread's disk I/O idle as well (ioprio_set(2)): quiet workers keep the usual
//     class.
#pragma once

#include <pthread.h>
#include <sched.h>
#include <sys/types.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "fs/base/fd.h"
#include "fs/base/result.h"

namespace layerfs::fuse {

/// Times of a pool; tests have others.
struct WorkerPoolTuning {
  /// Between two looks while requests come. What a worker that gets no processor costs begins with two of
  /// them.
  std::chrono::milliseconds tick{2};
  /// How long a pool is loud at first; each time that follows within `calm` of the last, twice as long.
  std::chrono::milliseconds first_pause{1000};
  std::chrono::milliseconds longest_pause{64'000};
  std::chrono::milliseconds calm{60'000};
  /// Looks after which one worker less may read, where none more was needed.
  unsigned less_after = 50;
  /// Looks at a pool whose workers have rings: the device does not say when a request comes by one.
  std::chrono::milliseconds ring_tick{50};
};

class WorkerPool {
 public:
  enum class Kind : unsigned char {
    kQuiet,     ///< reads the device while the pool is quiet (or raises it)
    kOrdinary,  ///< ... while it is loud
    kRing,      ///< takes requests of a ring, always; quiet where it can be raised again
  };
  /// Starts a thread that makes a Seat of this kind. Called with the pool's lock held.
  using Start = std::function<Result<void>(Kind)>;

  /// One worker's place in the pool. Made, used and destroyed by its thread.
  class Seat {
   public:
    Seat(WorkerPool& pool, Kind kind);
    Seat(const Seat&) = delete;
    Seat& operator=(const Seat&) = delete;
    ~Seat();

    /// Waits until this worker is to read. False: the pool ends.
    bool wait_for_turn();
    /// The read gave no request.
    void took_nothing();
    /// It did: called before the request is looked at. Workers of a ring call it without wait_for_turn().
    void took_request();
    /// The request at hand may wait for the disk: somebody else is to read meanwhile.
    void may_wait_for_disk();
    /// The worker keeps itself on that processor; -1: on none.
    void stays_on(int processor) { processor_.store(processor, std::memory_order_relaxed); }
    void answered() { does_ = Does::kNothing; }

   private:
    friend class WorkerPool;
    enum class Does : unsigned char { kNothing, kReads, kAnswers };
    WorkerPool& pool_;
    const Kind kind_;
    const pid_t thread_;
    const pthread_t handle_;
    unsigned number_ = 0;    // among those of its kind
    bool is_quiet_ = false;  // in SCHED_IDLE now; guarded by the pool's mutex_
    std::atomic<Does> does_ = Does::kNothing;
    std::atomic<std::uint64_t> taken_ = 0;
    std::atomic<int> processor_ = -1;
    // What watch() saw last; its alone.
    std::chrono::nanoseconds ran_{};
    bool was_runnable_ = false;
    std::uint64_t seen_ = 0;  // of taken_
  };

  /// At most `most` workers of a kind. `wake_signal` ends a read(2) of the device.
  WorkerPool(unsigned most, int wake_signal, Start start, WorkerPoolTuning tuning = {});
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  /// Starts the first worker. Errors: EAGAIN (no thread).
  Result<void> start();
  /// Keeps the pool fit for its load until the connection of `device` ends or stop() is called.
  void watch(int device);
  /// Makes watch() return, and wait_for_turn(). Whoever reads the device is the caller's to wake.
  void stop();

  /// Whether quiet workers read now.
  bool is_quiet() const { return !loud_.load(); }

 private:
  using Clock = std::chrono::steady_clock;
  enum class Look : unsigned char { kNothingWaits, kRequestWaits, kEnded };
  struct Burst;

  std::atomic<unsigned>& may_read(Kind kind) { return may_read_[static_cast<std::size_t>(kind)]; }
  unsigned& started(Kind kind) { return started_[static_cast<std::size_t>(kind)]; }
  Kind reading_kind_locked() const;
  /// `by`: the worker that wants it; null: watch().
  void let_one_more_read(const Seat* by);
  Result<void> let_one_more_read_locked(Kind kind);
  void let_one_less_read();
  std::uint64_t count_taken();
  /// Whether a worker has a request, or one of a ring runs: nobody else can say that there is one for it.
  bool is_anybody_at_work();
  /// Whether a worker that is wanted would run, and did not since the last call.
  bool is_starved(Look look);
  /// Moves watch() off the processors that quiet workers stay on: an ordinary thread there would send a
  /// caller away that is woken at this moment.
  void make_way();
  void call_watch();
  void hear_call();
  void become_loud();
  void become_quiet();
  void stay_loud();
  bool raise_locked();
  void call_back_locked();
  /// Looks every tick until nothing was done for some.
  Look watch_burst(int device);
  bool has_rings();

  const unsigned most_;
  const int wake_signal_;
  const Start start_;
  const WorkerPoolTuning tuning_;
  const bool may_be_quiet_;  // (5)

  const Fd call_;  // an eventfd that calls watch(); empty: watch() looks now and then
  std::atomic<bool> watch_sleeps_ = false;
  std::atomic<bool> stopping_ = false;
  std::atomic<bool> loud_;
  // Workers in read(2) of the device, or on the way there.
  std::atomic<unsigned> waiting_ = 0;
  // The first so many workers of each kind may read. Written with mutex_ held.
  std::array<std::atomic<unsigned>, 3> may_read_{};

  std::mutex mutex_;
  // Guarded by mutex_.
  std::condition_variable turn_;
  std::vector<Seat*> seats_;
  std::array<unsigned, 3> started_{};
  std::array<unsigned, 3> seated_{};
  bool raised_ = false;                 // the pool is loud by its quiet workers
  bool told_of_failure_ = false;        // to start a worker, the last time
  std::optional<bool> may_leave_idle_;  // whether it can be; empty: not asked

  cpu_set_t allowed_{};  // the process's processors; empty: more than the set holds

  // watch()'s alone.
  cpu_set_t used_{};
  Clock::time_point quiet_since_;
  Clock::time_point loud_until_;
  std::chrono::milliseconds pause_;
};

/// Whether a thread of this process that went to SCHED_IDLE could come back.
bool may_leave_sched_idle();

}  // namespace layerfs::fuse
