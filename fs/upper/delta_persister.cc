// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/delta_persister.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <exception>
#include <string>
#include <unordered_set>
#include <utility>

#include "fs/base/log.h"
#include "fs/base/scope_exit.h"
#include "fs/base/sys_file.h"
#include "fs/upper/checkpoint_fill.h"
#include "fs/upper/crc32c.h"
#include "fs/upper/delta_codec.h"
#include "fs/upper/delta_records.h"

namespace layerfs::upper {

namespace {

/// Erased files are removed early where they hold more than this, or a quarter of the free space.
constexpr std::uint64_t kErasedLimit = std::uint64_t{256} << 20;

/// A step of a compaction moves what this much of the checkpoint has, or one block.
constexpr std::uint64_t kCompactedAtOnce = std::uint64_t{256} << 10;

/// Data goes into the log in records of at most this many bytes.
constexpr std::size_t kLongestPiece = std::size_t{64} << 10;

bool is_full_disk(const Error& error) { return error.code == ENOSPC || error.code == EDQUOT; }

}  // namespace

void DeltaPersister::start() {
  marked_to_ = flushed_to_ = core_.covered;
  if (core_.checkpoint->has_batch()) whole_size_ = core_.checkpoint->size();
  // What a process that died has left is to be flushed in time too.
  if (core_.last_change > core_.covered) {
    const std::lock_guard lock(core_.write_mutex);
    if (core_.unsaved.add_change()) note_change();
  }
  // The thread takes no signals: they are the server's.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const ScopeExit restore_signals([&] { pthread_sigmask(SIG_SETMASK, &before, nullptr); });
  thread_ = std::thread([this] { run(); });
}

void DeltaPersister::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void DeltaPersister::note_change() {
  {
    const std::lock_guard lock(mutex_);
    if (!changed_at_) changed_at_ = Clock::now();
  }
  work_.notify_one();
}

void DeltaPersister::wake() {
  {
    const std::lock_guard lock(mutex_);
    wanted_ = true;
  }
  work_.notify_one();
}

void DeltaPersister::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const auto due = retry_at_     ? *retry_at_
                     : changed_at_ ? *changed_at_ + core_.tuning.flush_period
                                   : Clock::time_point::max();
    if (!wanted_ && Clock::now() < due) {
      if (due == Clock::time_point::max())
        work_.wait(lock);
      else
        work_.wait_until(lock, due);
      continue;
    }
    lock.unlock();
    // No exception may leave the entry of a thread. What was not done because of one is tried again.
    try {
      look_after();
    } catch (const std::exception& failure) {
      log_error("delta '{}': {}", core_.directory, failure.what());
      const std::lock_guard relock(mutex_);
      retry_at_ = Clock::now() + core_.tuning.retry_period;
    }
    lock.lock();
  }
}

void DeltaPersister::look_after() {
  bool due = false;
  {
    const std::lock_guard lock(mutex_);
    wanted_ = false;
    const auto now = Clock::now();
    due = retry_at_ ? *retry_at_ <= now : changed_at_ && *changed_at_ + core_.tuning.flush_period <= now;
  }
  if (core_.log->wants_segment()) {
    // This spares the next apply() that needs a segment the work. Where it fails, that apply() tries again
    // and reports the error.
    if (auto added = core_.log->add_segment(); !added)
      log_debug("delta '{}': grow the log: {}", core_.directory, added.error().message());
  }
  std::uint64_t erased_bytes = 0;
  {
    const std::lock_guard lock(core_.write_mutex);
    erased_bytes = core_.unsaved.erased_bytes();
  }
  const bool full = core_.log->used_segments() >= core_.tuning.checkpoint_segments;
  if (!due && !full && erased_bytes < erased_limit()) return;
  if (auto done = persist(full ? Extent::kCheckpoint : Extent::kFlush, std::nullopt); !done)
    log_warning("delta '{}': {}; trying again", core_.directory, done.error().message());
  struct statvfs space{};
  if (fstatvfs(core_.dir.get(), &space) == 0) {
    const std::uint64_t free_bytes = static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize;
    erased_limit_.store(std::min(kErasedLimit, free_bytes / 4), std::memory_order_relaxed);
  }
}

Result<void> DeltaPersister::persist(Extent extent, std::optional<tree::Ino> ino) {
  std::unique_lock lock(mutex_);
  const std::shared_ptr<Turn> mine = next_;
  if (ino) mine->inos.push_back(*ino);
  mine->extent = std::max(mine->extent, extent);
  while (!mine->done) {
    if (turn_runs_) {
      turn_done_.wait(lock);
      continue;
    }
    // No turn runs and the caller's own has not been yet, so this caller runs it, for all who joined it.
    turn_runs_ = true;
    next_ = std::make_shared<Turn>();
    changed_at_.reset();
    lock.unlock();
    mine->result = errno_error(EIO);  // should take_turn throw
    const ScopeExit end_turn([&] {
      lock.lock();
      mine->done = true;
      turn_runs_ = false;
      if (mine->result)
        retry_at_.reset();
      else
        retry_at_ = Clock::now() + core_.tuning.retry_period;
      turn_done_.notify_all();
      work_.notify_one();
    });
    mine->result = take_turn(*mine);
  }
  return mine->result;
}

Result<void> DeltaPersister::make_room() {
  // Data files of erased inodes are there until a flush. Their space may be the only room that can be had.
  const bool gives_back = core_.data->has_doomed() && persist(Extent::kFlush, std::nullopt);
  // Counted here, and not taken from the turns: one that makes room of the latest removals may still run.
  const std::uint64_t removals = removals_;
  {
    const std::lock_guard lock(mutex_);
    const bool is_new = gives_back || removals != no_room_removals_;
    if (!is_new && no_room_until_ && Clock::now() < *no_room_until_) return errno_error(no_room_error_);
  }
  auto made = persist(Extent::kCheckpoint, std::nullopt);
  // A checkpoint that failed for want of room may have given segments back before that.
  if (!made && is_full_disk(made.error()) && core_.log->has_room()) made = Result<void>();
  const std::lock_guard lock(mutex_);
  no_room_until_.reset();
  if (!made) {
    no_room_until_ = Clock::now() + core_.tuning.retry_period;
    no_room_error_ = made.error().code;
    no_room_removals_ = removals;
  }
  return made;
}

Result<void> DeltaPersister::take_turn(const Turn& turn) {
  if (!log_failed_) {
    auto done =
        turn.extent == Extent::kCheckpoint ? checkpoint(turn.inos) : flush(turn.inos, DataTo::kLogOrFiles);
    if (!log_failed_) return done;
    log_warning("delta '{}': flush the log: {}; making a checkpoint", core_.directory,
                done.error().message());
  }
  return exact_checkpoint(Requests::kKeep, turn.inos);
}

DeltaPersister::Batch DeltaPersister::take_batch_locked() {
  const std::unique_lock lock(core_.state_mutex);
  return {core_.last_change, core_.unsaved.take(core_.state)};
}

void DeltaPersister::restore(const Batch& batch) {
  const std::lock_guard lock(core_.write_mutex);
  const std::unique_lock state_lock(core_.state_mutex);
  core_.unsaved.restore(batch.unsaved, core_.state);
}

/// Puts the data that is to be flushed into the log instead of flushing the files. Changes that were made since the
/// batch was taken matter to no mark of it: an erased file is there until a later turn, and so is the place that a
/// file moved from. False: it is too much, the log has no room, or a file was cut, and the files are to be flushed;
/// data that went to the log by then does no harm.
bool DeltaPersister::log_data(const Batch& batch) {
  if (core_.options.is_volatile || !batch.unsaved.ranges || core_.unflushed.is_unknown()) return false;
  if (core_.log->used_segments() >= core_.tuning.checkpoint_segments) return false;
  struct Piece {
    DataName name;
    std::uint64_t offset;
    std::size_t length;
  };
  std::vector<Piece> pieces;
  std::vector<DataName> names;
  const std::size_t longest = std::min(kLongestPiece, core_.log->max_body() - kLogDataOverhead);
  for (const Unsaved::Range& range : *batch.unsaved.ranges) {
    names.push_back(range.name);
    for (std::uint64_t done = 0; done < range.length; done += longest)
      pieces.push_back(
          {range.name, range.offset + done, std::min<std::uint64_t>(longest, range.length - done)});
  }
  // The files are listed before their data is read. From then on sync_node() of one of them takes a turn,
  // which comes after this one, and does not flush the file by itself (DELTA.md, invariant 9).
  core_.unflushed.add(names);
  std::string body;
  for (const Piece& piece : pieces) {
    auto bytes = core_.data->read(piece.name, piece.offset, piece.length);
    // Of a file that was cut since the log would have nothing that makes it, and the mark names it.
    if (!bytes || bytes->empty()) return false;
    body.clear();
    append_data(body, {piece.name, piece.offset, *bytes});
    const std::uint32_t body_crc = crc32c(body);
    const std::lock_guard lock(core_.write_mutex);
    if (!core_.log->append(body, body_crc, AppendKind::kNormal)) return false;
  }
  return true;
}

/// Flushes the files of the batch, those asked for, and those of which the log has data, which it may then
/// forget.
Result<void> DeltaPersister::flush_files(const Batch& batch, const std::vector<tree::Ino>& inos) {
  if (core_.options.is_volatile) return {};
  if (core_.unflushed.is_unknown()) return core_.data->flush_all();
  std::vector<DataName> files = core_.unflushed.names();
  files.insert(files.end(), batch.unsaved.files.begin(), batch.unsaved.files.end());
  {
    const std::shared_lock lock(core_.state_mutex);
    const auto asked = core_.state.data_names(inos);
    files.insert(files.end(), asked.begin(), asked.end());
  }
  return core_.data->flush(files);
}

/// The names of the delta's own files, and the name of its directory.
Result<void> DeltaPersister::flush_own_names() {
  if (directory_flushed_ || core_.options.is_volatile) return {};
  LAYERFS_TRY(core_.sync->sync_all(core_.dir.get()));
  LAYERFS_ASSIGN(const Fd parent, open_at(core_.dir.get(), "..", O_RDONLY | O_DIRECTORY));
  LAYERFS_TRY(core_.sync->sync_all(parent.get()));
  directory_flushed_ = true;
  return {};
}

/// Puts a mark of the records up to `last_change` on disk.
Result<void> DeltaPersister::flush_log(std::uint64_t last_change) {
  if (core_.options.is_volatile) return {};
  if (last_change > marked_to_) {
    LAYERFS_TRY(flush_own_names());
    std::string body;
    append_mark(body, {last_change});
    LAYERFS_TRY(append_to_log(body));
    marked_to_ = last_change;
  }
  if (marked_to_ > flushed_to_ || log_waits_) {
    if (auto flushed = core_.log->flush(); !flushed) {
      log_failed_ = true;
      return flushed;
    }
    flushed_to_ = marked_to_;
    log_waits_ = false;
  }
  return {};
}

/// A record that no change waits for.
Result<void> DeltaPersister::append_to_log(std::string_view body) {
  const std::uint32_t body_crc = crc32c(body);
  const std::lock_guard lock(core_.write_mutex);
  LAYERFS_TRY(core_.log->append(body, body_crc, AppendKind::kMark));
  return {};
}

Result<void> DeltaPersister::flush(const std::vector<tree::Ino>& inos, DataTo to) {
  Batch batch;
  {
    const std::lock_guard lock(core_.write_mutex);
    batch = take_batch_locked();
  }
  if (core_.tuning.after_take) core_.tuning.after_take();
  ScopeExit undo([&] { restore(batch); });
  if (to == DataTo::kLogOrFiles && log_data(batch)) {
    LAYERFS_TRY(flush_log(batch.last_change));
  } else {
    LAYERFS_TRY(flush_files(batch, inos));
    // Only turns add to the list, so it is as it was when flush_files() looked at it.
    const bool frees = !core_.options.is_volatile && !core_.unflushed.is_empty();
    if (frees) {
      std::string body;
      append_flushed(body);
      LAYERFS_TRY(append_to_log(body));
      log_waits_ = true;
    }
    LAYERFS_TRY(flush_log(batch.last_change));
    // The list is cleared once the record that says `flushed` is on disk. Before that a power failure would
    // have the log's data written over what was flushed.
    if (frees) core_.unflushed.clear();
  }
  undo.release();
  finish(batch);
  return {};
}

/// Removes the data of inodes whose erasure is on disk. Where that fails it is tried again with the next
/// flush; the caller of this one gets no error.
void DeltaPersister::finish(const Batch& batch) {
  if (auto removed = core_.data->remove_doomed(batch.unsaved.erased); !removed) {
    log_warning("delta '{}': {}", core_.directory, removed.error().message());
    const std::lock_guard lock(core_.write_mutex);
    core_.unsaved.restore_erased(batch.unsaved);
  }
}

Result<void> DeltaPersister::checkpoint(const std::vector<tree::Ino>& inos) {
  std::uint64_t covered = 0;
  {
    const std::lock_guard lock(core_.write_mutex);
    covered = core_.last_change;
  }
  if (covered <= core_.covered) return flush(inos, DataTo::kFiles);
  if (wants_whole() && !core_.tuning.writes_whole) LAYERFS_TRY(compact(0));
  const auto done = checkpoint_to(covered, Room::kLeaveReserve, inos);
  // The blocks that are kept behind the checkpoint are used only after something was removed. Otherwise
  // changes that fill the disk would use them up.
  if (done || !is_full_disk(done.error()) || log_failed_) return done;
  const std::uint64_t removals = removals_;
  if (used_removals_ == removals) return done;
  used_removals_ = removals;
  return make_room_for_checkpoint(covered, inos);
}

/// DELTA.md, "A full disk".
Result<void> DeltaPersister::make_room_for_checkpoint(std::uint64_t covered,
                                                      const std::vector<tree::Ino>& inos) {
  auto compacted = compact(core_.log->used_bytes());
  // Whether it gained enough is seen by the checkpoints that follow. Where it has not looked at all blocks,
  // the next change that finds no room compacts further, as after one more removal.
  if (!compacted)
    log_debug("delta '{}': compact the checkpoint: {}", core_.directory, compacted.error().message());
  else if (*compacted == Lap::kUnfinished)
    note_removal();
  const auto done = checkpoint_to(covered, Room::kLeaveStep, inos);
  if (done || !is_full_disk(done.error()) || log_failed_) return done;
  for (Result<void> part; part;) {
    const std::uint64_t oldest = core_.log->oldest_end();
    if (oldest <= core_.covered || oldest >= covered) break;
    part = checkpoint_to(oldest, Room::kLeaveStep, inos);
  }
  return done;
}

/// Moves what the checkpoint's oldest blocks have that is still so to its end, step by step, until it is
/// shorter by `wanted` (0: as far as can be) or each block that it had has been looked at.
Result<DeltaPersister::Lap> DeltaPersister::compact(std::uint64_t wanted) {
  CheckpointFile& file = *core_.checkpoint;
  if (!file.has_batch() || file.needs_replace()) return Lap::kFinished;
  const std::uint64_t size_before = file.size();
  // Behind this are the blocks that the steps add. They are not looked at: their keys are among `moved`, so
  // they would be dropped without being moved.
  const CheckpointFile::Position end = file.next();
  std::unordered_set<std::string> moved;  // what is at the end already
  while (file.first().number < end.number && (wanted == 0 || file.size() + wanted > size_before)) {
    LAYERFS_ASSIGN(CheckpointFile::OldestBlocks oldest, file.oldest_blocks(kCompactedAtOnce, end));
    const bool has_requests = std::erase(oldest.keys, kRequestsKey) != 0;
    std::erase_if(oldest.keys,
                  [&](const std::string& key) { return key == kMetaKey || moved.contains(key); });
    const bool moves_requests = has_requests && moved.emplace(kRequestsKey).second;
    const auto fill = [&](RecordSink& sink) -> Result<void> {
      LAYERFS_TRY(write_present_records(core_, sink, oldest.keys));
      return finish_batch(sink, core_.covered, moves_requests ? Requests::kKeep : Requests::kForget, {});
    };
    LAYERFS_TRY(file.append(fill, Room::kTakeAll));
    LAYERFS_TRY(file.drop_before(oldest.next));
    moved.insert(std::make_move_iterator(oldest.keys.begin()), std::make_move_iterator(oldest.keys.end()));
  }
  whole_size_ = file.size();
  return file.first().number < end.number ? Lap::kUnfinished : Lap::kFinished;
}

/// A checkpoint of the records up to `covered`.
Result<void> DeltaPersister::checkpoint_to(std::uint64_t covered, Room room,
                                           const std::vector<tree::Ino>& inos) {
  const auto finish = [&](RecordSink& sink) { return finish_batch(sink, covered, Requests::kKeep, inos); };
  auto saved = save(covered, wants_whole(), room, finish);
  if (!saved && is_full_disk(saved.error()) && wants_whole() && !core_.checkpoint->needs_replace()) {
    // A disk that has no room for a second file may have some for a longer one.
    whole_size_ = core_.checkpoint->size();
    saved = save(covered, false, room, finish);
  }
  if (!saved) return saved;
  core_.covered = covered;
  core_.log->release(covered);
  return {};
}

/// Puts the last records of a batch that is made while changes go on: what it covers and needs and, with
/// kKeep, the numbers of the latest requests. Brings to disk what it needs.
Result<void> DeltaPersister::finish_batch(RecordSink& sink, std::uint64_t covered, Requests requests,
                                          const std::vector<tree::Ino>& inos) {
  CheckpointMeta meta;
  meta.covered = covered;
  std::vector<std::uint64_t> recent;
  {
    const std::lock_guard lock(core_.write_mutex);
    if (requests == Requests::kKeep) recent = core_.requests.latest(kRequestsStored);
    meta.needs = core_.last_change;
    meta.next_ino = std::max(core_.reserved_ino.load(), core_.state.next_ino());
  }
  // The log up to `needs` and the data that it names are on disk before the records that lean on them.
  LAYERFS_TRY(flush(inos, DataTo::kFiles));
  if (requests == Requests::kKeep) LAYERFS_TRY(sink.put(kRequestsKey, encode_requests(recent)));
  return sink.put(kMetaKey, encode_meta(meta));
}

/// True where the checkpoint is to be written whole: it has become much longer than what is in it, or can't
/// be added to.
bool DeltaPersister::wants_whole() const {
  return core_.checkpoint->needs_replace() ||
         (core_.checkpoint->has_batch() &&
          core_.checkpoint->size() > 2 * whole_size_ + core_.tuning.checkpoint_slack);
}

/// Writes what changed up to `covered`, or everything (`whole`), and what `finish` adds.
Result<void> DeltaPersister::save(std::uint64_t covered, bool whole, Room room,
                                  FunctionRef<Result<void>(RecordSink& sink)> finish) {
  const auto walk = [&](BodyVisitor visit) { return core_.log->walk(core_.covered + 1, covered, visit); };
  const auto fill = [&](RecordSink& sink) -> Result<void> {
    LAYERFS_TRY(whole ? write_all_records(core_, sink) : write_changed_records(core_, sink, walk));
    return finish(sink);
  };
  if (!whole) {
    LAYERFS_TRY(core_.checkpoint->append(fill, room));
    // The first batch of a new checkpoint is the whole of it.
    if (whole_size_ == 0) whole_size_ = core_.checkpoint->size();
    return {};
  }
  LAYERFS_TRY(core_.checkpoint->replace(fill));
  whole_size_ = core_.checkpoint->size();
  return {};
}

/// A checkpoint that needs nothing of the log: no change is made while it is taken.
Result<void> DeltaPersister::exact_checkpoint(Requests requests, const std::vector<tree::Ino>& inos) {
  std::unique_lock write_lock(core_.write_mutex);
  Batch batch = take_batch_locked();
  ScopeExit undo([&] {
    if (!write_lock.owns_lock()) write_lock.lock();
    core_.log->unseal();  // or every attempt would cost a segment
    write_lock.unlock();
    restore(batch);
  });
  // It covers every record of the log, marks and data too, because pages of a log whose flush failed may be
  // lost: the records that follow must not be looked for behind them.
  const std::uint64_t covered = core_.log->last_seq();
  const auto recent =
      requests == Requests::kKeep ? core_.requests.latest(kRequestsStored) : std::vector<std::uint64_t>{};
  const auto finish_batch = [&](RecordSink& sink) -> Result<void> {
    const CheckpointMeta meta{covered, covered, std::max(core_.reserved_ino.load(), core_.state.next_ino())};
    if (log_failed_) core_.log->seal();
    write_lock.unlock();
    LAYERFS_TRY(flush_own_names());
    LAYERFS_TRY(flush_files(batch, inos));
    LAYERFS_TRY(sink.put(kRequestsKey, encode_requests(recent)));
    return sink.put(kMetaKey, encode_meta(meta));
  };
  LAYERFS_TRY(save(covered, wants_whole(), Room::kTakeAll, finish_batch));
  undo.release();
  core_.covered = covered;
  core_.log->release(covered);
  core_.unflushed.clear();
  log_failed_ = false;
  log_waits_ = false;
  marked_to_ = std::max(marked_to_, batch.last_change);
  flushed_to_ = marked_to_;
  finish(batch);
  return {};
}

Result<void> DeltaPersister::close() {
  // Where nothing was changed since the last close, nothing is written.
  const bool unchanged = core_.last_change <= core_.covered && core_.requests.latest(1).empty();
  if (unchanged)
    LAYERFS_TRY(flush({}, DataTo::kFiles));
  else
    LAYERFS_TRY(exact_checkpoint(Requests::kForget, {}));
  LAYERFS_TRY(core_.data->keep_shared(core_.state.sharers()));
  core_.checkpoint->drop_reserve();
  return core_.log->close_empty(core_.covered + 1);
}

}  // namespace layerfs::upper
