// SPDX-License-Identifier: Apache-2.0
// kill -9 of a process that changes a delta, hundreds of times at random instants, under several threads.
// After each, everything that was acknowledged is there, a change set is there as a whole or not at all, and
// file contents are those that the changes named. LAYERFS_CRASH_ROUNDS and LAYERFS_CRASH_SEED override the
// defaults.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <random>
#include <thread>

#include "fs/base/bytes.h"
#include "fs/base/sys_file.h"
#include "fs/upper/delta_open.h"
#include "fs/upper/delta_records.h"
#include "tests/base/scratch_dir.h"
#include "tests/upper/delta_model.h"

namespace layerfs::upper {
namespace {

using tree::ChangeSet;
using tree::Ino;

constexpr std::size_t kThreads = 3;

std::uint64_t setting(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::stoull(text) : otherwise;
}

/// Flushes cost nothing: the death of a process does not need them.
struct NoSync final : SyncOps {
  Result<void> sync_data(int) override { return {}; }
  Result<void> sync_all(int) override { return {}; }
  Result<void> sync_file_system(int) override { return {}; }
};

/// What one thread does: counter k appends record k to a file, and a change set names it with much else.
class Worker {
 public:
  Worker(std::uint64_t seed, std::uint64_t base) : base_(base), maker_(seed, base) {}

  std::uint64_t counter() const { return counter_; }
  std::uint64_t base() const { return base_; }
  Ino file() const { return Ino{base_ + 40}; }
  static std::uint64_t record(std::uint64_t counter) { return counter * 0x9E3779B97F4A7C15ULL; }

  ChangeSet next() {
    ChangeSet set = maker_.next(++counter_);
    set.request = counter_ * 16 + base_ / 1000;
    tree::Node node;
    node.size = counter_ * 8;
    node.content = counter_ <= test::kSharedRecords ? tree::ContentKind::kShared : tree::ContentKind::kData;
    set.changes.push_back(tree::PutNode{file(), node});
    return set;
  }
  Result<void> step(tree::UpperLayer& upper) {
    const ChangeSet set = next();
    tree::Node node;
    LAYERFS_ASSIGN(const auto data, test::place_of_record(upper, file(), counter_, node));
    std::string bytes;
    append_le(bytes, record(counter_));
    LAYERFS_TRY(pwrite_full(data.fd(), as_bytes(bytes), data.offset + (counter_ - 1) * 8));
    return upper.apply(set);
  }

 private:
  std::uint64_t base_;
  test::ChangeMaker maker_;
  std::uint64_t counter_ = 0;
};

struct Ack {
  std::uint64_t thread;
  std::uint64_t counter;
};

/// The process that is killed: changes until it dies.
[[noreturn]] void change_until_killed(const std::string& path, const DeltaTuning& tuning,
                                      const std::vector<Worker>& workers, int acks) {
  auto upper = open_delta_with(path, {}, tuning);
  if (!upper) {
    fprintf(stderr, "child: %s\n", upper.error().message().c_str());
    _exit(1);
  }
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < workers.size(); ++t) {
    threads.emplace_back([&, t, worker = workers[t]]() mutable {
      for (;;) {
        if (auto done = worker.step(**upper); !done) {
          fprintf(stderr, "child: %s\n", done.error().message().c_str());
          _exit(1);
        }
        const Ack ack{t, worker.counter()};
        if (write(acks, &ack, sizeof ack) != sizeof ack) _exit(1);
        if (worker.counter() % 29 == 0 && !(*upper)->sync_node(worker.file(), tree::FsyncKind::kAll))
          _exit(1);
        if (worker.counter() % 171 == 0 && !(*upper)->sync()) _exit(1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  _exit(1);
}

class DeltaKillTest : public ::testing::Test {
 protected:
  DeltaKillTest() {
    tuning_.segment_size = kMinSegmentSize;
    tuning_.checkpoint_segments = 3;
    tuning_.flush_period = std::chrono::milliseconds(3);
    tuning_.sync = &no_sync_;
    for (std::size_t t = 0; t < kThreads; ++t) {
      workers_.emplace_back(seed_ * kThreads + t, 1000 * (t + 1));
      models_.emplace_back();
    }
  }

  /// Lets a child change the delta for a while, kills it and gives the last acknowledged number of each
  /// thread.
  std::array<std::uint64_t, kThreads> run_and_kill(std::chrono::microseconds life) {
    std::array<std::uint64_t, kThreads> acknowledged{};
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    Fd read_end(ends[0]);
    Fd write_end(ends[1]);
    const pid_t child = fork();
    if (child == 0) change_until_killed(path_, tuning_, workers_, write_end.get());
    write_end.reset();
    pollfd waiting{read_end.get(), POLLIN, 0};
    poll(&waiting, 1, 10'000);  // it is open and changing
    std::thread killer([&] {
      std::this_thread::sleep_for(life);
      kill(child, SIGKILL);
    });
    Ack ack{};
    while (read(read_end.get(), &ack, sizeof ack) == sizeof ack) acknowledged[ack.thread] = ack.counter;
    killer.join();
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status)) << "the child failed by itself";
    return acknowledged;
  }

  /// Brings workers and models to what `upper` says and compares it.
  void check(const tree::UpperLayer& upper, const std::array<std::uint64_t, kThreads>& acknowledged) {
    test::Dump expected;
    // The latest kRequestsStored requests are known, whatever becomes of the log: a thread that did not get a
    // processor for a while, between its change and the next, has seen more than those pass by.
    std::uint64_t changes = 0;
    for (const Worker& worker : workers_)
      changes += test::ChangeMaker::counter_of(upper, worker.base()) - worker.counter();
    for (std::size_t t = 0; t < kThreads; ++t) {
      Worker& worker = workers_[t];
      const std::uint64_t found = test::ChangeMaker::counter_of(upper, worker.base());
      const std::uint64_t acked = std::max(acknowledged[t], worker.counter());
      ASSERT_GE(found, acked) << "thread " << t << " lost what was acknowledged";
      ASSERT_LE(found, acked + 1) << "thread " << t;
      std::uint64_t request = 0;
      while (worker.counter() < found) {
        const ChangeSet set = worker.next();
        models_[t].apply(set);
        request = set.request;
      }
      if (request != 0 && changes <= kRequestsStored) {
        EXPECT_TRUE(upper.was_applied(request)) << "request " << request << " of thread " << t;
      }
      if (found != 0) check_file(upper, worker);
      expected.merge(models_[t].dump());
    }
    ASSERT_EQ(test::dump(upper), expected);
  }

  static void check_file(const tree::UpperLayer& upper, const Worker& worker) {
    const auto data = test::find_place(upper, worker.file());
    ASSERT_TRUE(data) << data.error().message();
    std::string bytes(worker.counter() * 8, '\0');
    ASSERT_EQ(*pread_full(data->fd(), std::as_writable_bytes(std::span(bytes)), data->offset), bytes.size());
    for (std::uint64_t k = 1; k <= worker.counter(); ++k)
      ASSERT_EQ(load_le<std::uint64_t>(bytes.data() + (k - 1) * 8), Worker::record(k)) << "record " << k;
  }

  const std::uint64_t seed_ = setting("LAYERFS_CRASH_SEED", std::random_device{}());
  ScratchDir dir_;
  const std::string path_ = dir_ / "delta";
  NoSync no_sync_;
  DeltaTuning tuning_;
  std::vector<Worker> workers_;
  std::vector<test::Model> models_;
};

TEST_F(DeltaKillTest, NothingAcknowledgedIsLostWheneverItIsKilled) {
  SCOPED_TRACE("LAYERFS_CRASH_SEED=" + std::to_string(seed_));
  std::mt19937_64 random(seed_);
  const std::uint64_t rounds = setting("LAYERFS_CRASH_ROUNDS", 300);
  for (std::uint64_t round = 0; round < rounds && !HasFatalFailure(); ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    const auto acknowledged = run_and_kill(std::chrono::microseconds(random() % 20'000));
    // Mostly the next child finds what the dead one left; sometimes a clean close lies between.
    const bool writable = random() % 5 == 0;
    auto upper = open_delta_with(path_, {.read_only = !writable}, tuning_);
    ASSERT_TRUE(upper) << upper.error().message();
    check(**upper, acknowledged);
  }
}

}  // namespace
}  // namespace layerfs::upper
