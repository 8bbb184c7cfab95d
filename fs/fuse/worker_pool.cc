// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/worker_pool.h"

#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <thread>

#include "fs/base/bytes.h"
#include "fs/base/check.h"
#include "fs/base/log.h"
#include "fs/base/process_stat.h"
#include "fs/base/scope_exit.h"
#include "fs/base/sys_file.h"

namespace layerfs::fuse {
namespace {

/// Looks in a row at which requests waited although all workers that read are at work.
constexpr unsigned kCrowded = 4;
/// Looks in a row without progress.
constexpr unsigned kStuck = 2;
/// Looks in a row at which nothing was done since the last one: then the device itself is waited for.
constexpr unsigned kSilent = 10;

/// Where nothing can call watch().
constexpr std::chrono::milliseconds kLookAgain{500};

// linux/ioprio.h, which older headers lack.
constexpr int kIoprioWhoProcess = 1;
constexpr int kIoprioBestEffort = 2 << 13 | 4;  // what a thread of nice 0 has

bool set_policy(pid_t thread, int policy) {
  sched_param none{};
  return ::sched_setscheduler(thread, policy, &none) == 0;
}

/// The processor time of a thread of this process; 0 where it can't be told.
std::chrono::nanoseconds processor_time(pthread_t thread) {
  clockid_t clock{};
  timespec time{};
  if (::pthread_getcpuclockid(thread, &clock) != 0 || ::clock_gettime(clock, &time) != 0) return {};
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

/// Whether a thread of this process runs or waits for a processor only (proc(5), state R). Where that can't
/// be read the answer is yes: a pool that is loud without need only does without an advantage.
bool is_runnable(pid_t thread) {
  auto text = read_file(fmt::format("/proc/self/task/{}/stat", thread));
  if (!text) return true;
  return find_stat_field(*text, StatField::kState) == "R";
}

/// Quiet workers that are of use where nothing waits for the disk.
unsigned most_of_processors() {
  static const unsigned most = std::max(1U, std::thread::hardware_concurrency() / 2);
  return most;
}

}  // namespace

bool may_leave_sched_idle() {
  bool left = false;
  try {
    std::thread([&] { left = set_policy(0, SCHED_IDLE) && set_policy(0, SCHED_OTHER); }).join();
  } catch (const std::system_error&) {
    return false;
  }
  return left;
}

WorkerPool::Seat::Seat(WorkerPool& pool, Kind kind)
    : pool_(pool), kind_(kind), thread_(::gettid()), handle_(::pthread_self()) {
  std::lock_guard lock(pool_.mutex_);
  number_ = pool_.seated_[static_cast<std::size_t>(kind)]++;
  pool_.seats_.push_back(this);
  // The device does not say that a request waits for this one: watch() has to look from now on.
  if (kind_ == Kind::kRing && pool_.watch_sleeps_.exchange(false)) pool_.call_watch();
  // A thread has its starter's processors: its caller's one, or those that watch() was left.
  if (CPU_COUNT(&pool_.allowed_) > 0) ::sched_setaffinity(0, sizeof pool_.allowed_, &pool_.allowed_);
  if (!pool_.may_be_quiet_) return;
  if (kind_ != Kind::kOrdinary) ::syscall(SYS_ioprio_set, kIoprioWhoProcess, 0, kIoprioBestEffort);  // (6)
  bool quiet = kind_ != Kind::kOrdinary && !pool_.raised_;
  if (quiet && kind_ == Kind::kRing) {
    if (!pool_.may_leave_idle_) pool_.may_leave_idle_ = may_leave_sched_idle();
    quiet = *pool_.may_leave_idle_;
  }
  // A thread has its starter's policy: it may have to leave that one.
  const bool done = set_policy(0, quiet ? SCHED_IDLE : SCHED_OTHER);
  if (!done) log_debug("sched_setscheduler: {}", errno_text(errno));
  is_quiet_ = quiet == done;
}

WorkerPool::Seat::~Seat() {
  std::lock_guard lock(pool_.mutex_);
  std::erase(pool_.seats_, this);
}

bool WorkerPool::Seat::wait_for_turn() {
  if (number_ >= pool_.may_read(kind_)) {
    std::unique_lock lock(pool_.mutex_);
    pool_.turn_.wait(lock, [this] { return pool_.stopping_ || number_ < pool_.may_read(kind_); });
  }
  if (pool_.stopping_) return false;
  does_ = Does::kReads;
  ++pool_.waiting_;
  return true;
}

void WorkerPool::Seat::took_nothing() {
  does_ = Does::kNothing;
  --pool_.waiting_;
}

void WorkerPool::Seat::took_request() {
  taken_.store(taken_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  const bool was_reading = does_.exchange(Does::kAnswers) == Does::kReads;
  // poll(2) does not return for a request that was taken before its thread ran. After does_ was set: watch()
  // looks at that after it has said that it sleeps.
  if (pool_.watch_sleeps_ && pool_.watch_sleeps_.exchange(false)) pool_.call_watch();
  if (was_reading && --pool_.waiting_ == 0 && pool_.loud_) pool_.let_one_more_read(this);
}

void WorkerPool::Seat::may_wait_for_disk() {
  if (kind_ != Kind::kRing && pool_.waiting_ == 0) pool_.let_one_more_read(this);
}

WorkerPool::WorkerPool(unsigned most, int wake_signal, Start start, WorkerPoolTuning tuning)
    : most_(most),
      wake_signal_(wake_signal),
      start_(std::move(start)),
      tuning_(tuning),
      may_be_quiet_(::sched_getscheduler(0) == SCHED_OTHER),
      call_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      loud_(!may_be_quiet_),
      quiet_since_(Clock::now()),
      pause_(tuning.first_pause) {
  LAYERFS_CHECK(most_ > 0);
  // More processors than the set holds: threads stay where the scheduler puts them.
  if (::sched_getaffinity(0, sizeof allowed_, &allowed_) != 0) CPU_ZERO(&allowed_);
  used_ = allowed_;
}

WorkerPool::Kind WorkerPool::reading_kind_locked() const {
  return loud_ && !raised_ ? Kind::kOrdinary : Kind::kQuiet;
}

Result<void> WorkerPool::start() {
  std::lock_guard lock(mutex_);
  return let_one_more_read_locked(reading_kind_locked());
}

void WorkerPool::stop() {
  std::lock_guard lock(mutex_);
  stopping_ = true;
  turn_.notify_all();
  raise_locked();  // whoever waits for the threads' end is not to wait for a processor
  call_watch();
}

void WorkerPool::call_watch() {
  const std::uint64_t one = 1;
  if (!call_) return;
  if (auto told = write_full(call_.get(), std::as_bytes(std::span(&one, 1))); !told)
    log_debug("{}", told.error().message());
}

void WorkerPool::hear_call() {
  std::uint64_t calls = 0;
  [[maybe_unused]] auto heard = read_full(call_.get(), std::as_writable_bytes(std::span(&calls, 1)));
}

void WorkerPool::let_one_more_read(const Seat* by) {
  std::lock_guard lock(mutex_);
  const Kind kind = reading_kind_locked();
  // (4): a quiet worker that was late may start none of the ordinary ones.
  if (by != nullptr && by->kind_ != kind) return;
  auto more = let_one_more_read_locked(kind);
  if (!more && !told_of_failure_)
    log_warning("{}; going on with {} workers", more.error().message(), seats_.size());
  told_of_failure_ = !more;
}

Result<void> WorkerPool::let_one_more_read_locked(Kind kind) {
  if (stopping_ || may_read(kind) >= most_) return {};
  if (may_read(kind) == started(kind)) {
    LAYERFS_TRY(start_(kind));
    ++started(kind);
  }
  ++may_read(kind);
  turn_.notify_all();
  return {};
}

void WorkerPool::let_one_less_read() {
  std::lock_guard lock(mutex_);
  if (waiting_ < 2) return;  // who would be left may be at work for long
  if (auto& some = may_read(reading_kind_locked()); some > 1) --some;
}

std::uint64_t WorkerPool::count_taken() {
  std::lock_guard lock(mutex_);
  std::uint64_t sum = 0;
  for (const Seat* seat : seats_) sum += seat->taken_.load(std::memory_order_relaxed);
  return sum;
}

bool WorkerPool::is_anybody_at_work() {
  std::lock_guard lock(mutex_);
  return std::ranges::any_of(seats_, [](const Seat* seat) {
    return seat->does_ == Seat::Does::kAnswers || (seat->kind_ == Kind::kRing && is_runnable(seat->thread_));
  });
}

bool WorkerPool::has_rings() {
  std::lock_guard lock(mutex_);
  return seated_[static_cast<std::size_t>(Kind::kRing)] > 0;
}

bool WorkerPool::is_starved(Look look) {
  std::lock_guard lock(mutex_);
  bool starved = false;
  for (Seat* seat : seats_) {
    const std::uint64_t taken = seat->taken_.load(std::memory_order_relaxed);
    const bool is_wanted = seat->does_ == Seat::Does::kAnswers || seat->kind_ == Kind::kRing ||
                           (seat->does_ == Seat::Does::kReads && look == Look::kRequestWaits);
    const bool might = seat->is_quiet_ && is_wanted && taken == seat->seen_;
    seat->seen_ = taken;
    const bool runnable = might && is_runnable(seat->thread_);
    const auto ran = runnable ? processor_time(seat->handle_) : std::chrono::nanoseconds();
    // A quarter of the time between two looks would do to go on.
    if (runnable && seat->was_runnable_ && ran - seat->ran_ < std::chrono::nanoseconds(tuning_.tick) / 4)
      starved = true;
    seat->was_runnable_ = runnable;
    seat->ran_ = ran;
  }
  return starved;
}

bool WorkerPool::raise_locked() {
  for (Seat* seat : seats_) {
    if (!seat->is_quiet_) continue;
    if (!set_policy(seat->thread_, SCHED_OTHER)) return false;
    seat->is_quiet_ = false;
  }
  return true;
}

void WorkerPool::make_way() {
  cpu_set_t free = allowed_;
  {
    std::lock_guard lock(mutex_);
    for (const Seat* seat : seats_)
      if (const int processor = seat->processor_.load(std::memory_order_relaxed); processor >= 0)
        CPU_CLR(static_cast<std::size_t>(processor), &free);
  }
  if (CPU_COUNT(&free) == 0) free = allowed_;
  if (CPU_EQUAL(&free, &used_)) return;
  if (::sched_setaffinity(0, sizeof free, &free) == 0) used_ = free;
}

void WorkerPool::become_loud() {
  const auto now = Clock::now();
  if (now - quiet_since_ > tuning_.calm) pause_ = tuning_.first_pause;
  loud_until_ = now + pause_;
  log_debug("quiet workers get no processor: ordinary ones for {} ms", pause_.count());
  pause_ = std::min(2 * pause_, tuning_.longest_pause);
  std::lock_guard lock(mutex_);
  raised_ = raise_locked();
  loud_ = true;
  if (raised_) return;
  // (2) None is lost where this fails: quiet workers go on.
  if (auto more = let_one_more_read_locked(Kind::kOrdinary); !more) {
    log_warning("{}", more.error().message());
    loud_ = false;
    return;
  }
  may_read(Kind::kQuiet) = 0;
  call_back_locked();
}

/// Wakes quiet workers that still read: the kernel would go on giving them requests. A signal may come before
/// the read(2) that it is for, so this is repeated; who answers a request is left alone, as its system calls
/// are not to end early.
void WorkerPool::call_back_locked() {
  for (const Seat* seat : seats_)
    if (seat->kind_ == Kind::kQuiet && seat->does_ == Seat::Does::kReads)
      ::pthread_kill(seat->handle_, wake_signal_);
}

void WorkerPool::become_quiet() {
  std::lock_guard lock(mutex_);
  quiet_since_ = Clock::now();
  loud_ = false;
  if (raised_)
    for (Seat* seat : seats_)
      if (seat->kind_ != Kind::kOrdinary) seat->is_quiet_ = set_policy(seat->thread_, SCHED_IDLE);
  raised_ = false;
  // Ordinary ones that read leave with the request that they take next.
  may_read(Kind::kOrdinary) = 0;
  may_read(Kind::kQuiet) = 1;
  turn_.notify_all();
}

/// What was seen since requests began to come.
struct WorkerPool::Burst {
  std::uint64_t taken = 0;
  unsigned silent = 0;
  unsigned stuck = 0;
  unsigned crowded = 0;
  unsigned enough = 0;  // looks since one more was needed
};

WorkerPool::Look WorkerPool::watch_burst(int device) {
  Burst burst{.taken = count_taken()};
  while (!stopping_) {
    pollfd call{call_.get(), POLLIN, 0};
    if (::poll(&call, 1, static_cast<int>(tuning_.tick.count())) > 0) hear_call();
    if (stopping_) return Look::kEnded;
    pollfd waits{device, POLLIN, 0};
    ::poll(&waits, 1, 0);
    if ((waits.revents & POLLERR) != 0) return Look::kEnded;
    const bool request_waits = (waits.revents & POLLIN) != 0;
    make_way();
    const std::uint64_t taken = count_taken();
    const bool progress = taken != burst.taken;
    burst.taken = taken;
    const bool at_work = !progress && (request_waits || is_anybody_at_work());
    burst.silent = progress || at_work ? 0 : burst.silent + 1;
    if (burst.silent >= kSilent) return Look::kNothingWaits;
    burst.stuck = at_work ? burst.stuck + 1 : 0;
    // Not for lack of a processor: all that read are held up by the disk.
    const bool held_up = burst.stuck >= kStuck && request_waits && waiting_ == 0;
    if (loud_) {
      // Who took its request while the pool was quiet has let nobody else read (3).
      if (held_up) let_one_more_read(nullptr);
      stay_loud();
      continue;
    }
    burst.crowded = progress && request_waits ? burst.crowded + 1 : 0;
    if (is_starved(request_waits ? Look::kRequestWaits : Look::kNothingWaits)) {
      become_loud();
      burst = Burst{.taken = taken};
      continue;
    }
    const bool crowded = burst.crowded >= kCrowded && may_read(Kind::kQuiet) < most_of_processors();
    if (held_up || crowded) {
      burst.crowded = burst.enough = 0;
      let_one_more_read(nullptr);
    } else if (++burst.enough >= tuning_.less_after) {
      burst.enough = 0;
      let_one_less_read();
    }
  }
  return Look::kEnded;
}

void WorkerPool::stay_loud() {
  if (!may_be_quiet_) return;
  if (Clock::now() >= loud_until_) return become_quiet();
  std::lock_guard lock(mutex_);
  if (!raised_) call_back_locked();
}

void WorkerPool::watch(int device) {
  ScopeExit go_back([this] { ::sched_setaffinity(0, sizeof allowed_, &allowed_); });
  std::uint64_t taken = 0;
  while (!stopping_) {
    std::array<pollfd, 2> waits{{{device, POLLIN, 0}, {call_.get(), POLLIN, 0}}};
    watch_sleeps_ = true;
    const bool rings = has_rings();
    auto patience = rings ? tuning_.ring_tick : call_ ? std::chrono::milliseconds(-1) : kLookAgain;
    if (is_anybody_at_work()) patience = tuning_.tick;
    const int ready = ::poll(waits.data(), waits.size(), static_cast<int>(patience.count()));
    watch_sleeps_ = false;
    if (ready < 0) continue;
    if (waits[1].revents != 0) hear_call();
    if (stopping_ || (waits[0].revents & POLLERR) != 0) return;
    const std::uint64_t before = taken;
    taken = count_taken();
    if (waits[0].revents == 0 && taken == before && !is_anybody_at_work()) continue;
    if (watch_burst(device) == Look::kEnded) return;
    taken = count_taken();
    if (loud_) continue;
    std::lock_guard lock(mutex_);
    may_read(Kind::kQuiet) = 1;
  }
}

}  // namespace layerfs::fuse
