// SPDX-License-Identifier: Apache-2.0
// DeltaPersister: brings a delta to disk (DELTA.md, "Orders of writes"): flushes, checkpoints, the removal of
// erased files' data, and the thread that does them in time.
//
// (1) Flushes take turns. Whoever asks joins the next turn, which begins after the call: one flush serves all
//     who came while the one before it ran.
// (2) No lock of the core is held over a system call, but in an exact checkpoint (close, a log that failed).
// (3) After an error everything stays as it was on disk and in the lists, and is tried again.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "fs/base/function_ref.h"
#include "fs/base/result.h"
#include "fs/upper/delta_core.h"

namespace layerfs::upper {

class DeltaPersister {
 public:
  explicit DeltaPersister(DeltaCore& core) : core_(core) {}
  ~DeltaPersister() { stop(); }
  DeltaPersister(const DeltaPersister&) = delete;
  DeltaPersister& operator=(const DeltaPersister&) = delete;

  /// Starts the thread.
  void start();
  /// Ends the thread.
  void stop();
  /// Everything to the checkpoint, and the log cut down. Requires: stop(); no other calls any more.
  Result<void> close();

  enum class Extent : std::uint8_t { kFlush, kCheckpoint };
  /// Everything before the call, and `ino`'s data in any case, is on disk on return; kCheckpoint: in the
  /// checkpoint. Under `volatile` nothing is flushed.
  Result<void> persist(Extent extent, std::optional<tree::Ino> ino);
  /// Records up to this are on disk, with the data that they name.
  std::uint64_t flushed_to() const { return flushed_to_.load(std::memory_order_acquire); }
  /// Makes room in a full log, or says why that can't be had just now.
  Result<void> make_room();

  /// A change was made after a flush had begun: the time of the next one runs. Called with the write lock.
  void note_change();
  /// A change that removes something was made: on a full disk it is worth while to look for room again. Any
  /// thread, with any lock.
  void note_removal() { removals_.fetch_add(1, std::memory_order_relaxed); }
  /// Something is to be looked after now.
  void wake();
  /// As many bytes of erased files as make it worth while to remove them now.
  std::uint64_t erased_limit() const { return erased_limit_.load(std::memory_order_relaxed); }

 private:
  using Clock = std::chrono::steady_clock;
  struct Turn {
    std::vector<tree::Ino> inos;
    Extent extent = Extent::kFlush;
    bool done = false;
    Result<void> result;
  };
  /// What one flush brings to disk.
  struct Batch {
    std::uint64_t last_change = 0;  // the number of the last record that is in it
    Unsaved::Batch unsaved;
  };

  void run();
  void look_after();
  Result<void> take_turn(const Turn& turn);
  Batch take_batch_locked();
  void restore(const Batch& batch);
  enum class DataTo : std::uint8_t { kFiles, kLogOrFiles };
  Result<void> flush(const std::vector<tree::Ino>& inos, DataTo to);
  bool log_data(const Batch& batch);
  Result<void> flush_files(const Batch& batch, const std::vector<tree::Ino>& inos);
  Result<void> append_to_log(std::string_view body);
  Result<void> flush_own_names();
  Result<void> flush_log(std::uint64_t last_change);
  Result<void> checkpoint(const std::vector<tree::Ino>& inos);
  Result<void> checkpoint_to(std::uint64_t covered, Room room, const std::vector<tree::Ino>& inos);
  enum class Requests : std::uint8_t { kKeep, kForget };
  Result<void> finish_batch(RecordSink& sink, std::uint64_t covered, Requests requests,
                            const std::vector<tree::Ino>& inos);
  Result<void> make_room_for_checkpoint(std::uint64_t covered, const std::vector<tree::Ino>& inos);
  enum class Lap : std::uint8_t { kUnfinished, kFinished };
  Result<Lap> compact(std::uint64_t wanted);
  Result<void> exact_checkpoint(Requests requests, const std::vector<tree::Ino>& inos);
  bool wants_whole() const;
  Result<void> save(std::uint64_t covered, bool whole, Room room,
                    FunctionRef<Result<void>(RecordSink& sink)> finish);
  void finish(const Batch& batch);

  DeltaCore& core_;

  // What the last mark on disk says; only the turn that runs changes it.
  std::atomic<std::uint64_t> flushed_to_{0};
  // Of the turn that runs.
  std::uint64_t marked_to_ = 0;  // what the last mark says
  bool log_failed_ = false;
  bool log_waits_ = false;  // it has a record that must be on disk though no mark is new
  bool directory_flushed_ = false;
  std::uint64_t used_removals_ = 0;  // those for which the reserve behind the checkpoint was used
  std::uint64_t whole_size_ = 0;     // of the checkpoint when it was last written whole

  std::atomic<std::uint64_t> erased_limit_{64U << 20};
  /// Counts the changes that removed something, with one for those before the delta was opened.
  std::atomic<std::uint64_t> removals_{1};

  std::mutex mutex_;
  std::condition_variable turn_done_;
  std::condition_variable work_;
  std::shared_ptr<Turn> next_ = std::make_shared<Turn>();
  bool turn_runs_ = false;
  std::optional<Clock::time_point> changed_at_;     // of the oldest change that no flush has begun for
  std::optional<Clock::time_point> retry_at_;       // after a failure
  std::optional<Clock::time_point> no_room_until_;  // after make_room() failed with no_room_error_
  int no_room_error_ = 0;
  std::uint64_t no_room_removals_ = 0;  // how many there were when that make_room() began
  bool wanted_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace layerfs::upper
