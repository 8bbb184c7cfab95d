// SPDX-License-Identifier: Apache-2.0
// Opening: the checkpoint, then what the log has beyond it (DELTA.md, "What each crash leaves").
#include "fs/upper/delta_open.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "fs/base/log.h"
#include "fs/base/sys_file.h"
#include "fs/upper/checkpoint_fill.h"
#include "fs/upper/delta_codec.h"
#include "fs/upper/delta_core.h"
#include "fs/upper/delta_records.h"
#include "fs/upper/delta_upper_impl.h"
#include "fs/upper/upper_file.h"

namespace layerfs::upper {

namespace {

constexpr std::size_t kLongestLog = kLogHeaderSize + kMaxSegments * std::size_t{kMaxSegmentSize};
constexpr int kReadAttempts = 20;
constexpr std::chrono::milliseconds kReadPause{25};

/// Whether somebody appends to the log while it is read.
enum class LogTail : std::uint8_t { kStays, kMoves };

/// What the log had beyond the checkpoint.
struct Replay {
  bool has_log = false;
  bool is_clean = true;  ///< no segment: closed cleanly, or never used
  bool power_failed = false;
  LogHeader header;
  std::uint64_t last_seq = 0;  ///< of the last record that counts
  std::vector<LogData> data;   ///< to be put back into the data files, in order; views of the log's bytes
  /// Data that records of the log erased. An earlier state, which a power failure may leave, has it still.
  std::vector<DataName> erased;
};

std::string checkpoint_path(const std::string& directory) { return join_path(directory, "checkpoint"); }
std::string lock_path(const std::string& directory) { return join_path(directory, "lock"); }
std::string log_path(const std::string& directory) { return join_path(directory, "redo.log"); }

/// What the marks of a log say.
struct Marked {
  std::uint64_t upto = 0;     ///< the last record that one covers
  std::vector<LogData> data;  ///< what lies before one and was not flushed otherwise since
};

/// What the marks beyond `covered` say; `covered` itself where there are none.
Result<Marked> read_marks(const RedoScan& scan, std::uint64_t covered) {
  Marked marked;
  marked.upto = covered;
  std::vector<LogData> unmarked;
  LAYERFS_TRY(scan.for_each_from(covered + 1, [&](std::uint64_t seq, std::string_view body) -> Result<void> {
    LAYERFS_ASSIGN(const LogBody decoded, decode_body(body));
    if (const auto* data = std::get_if<LogData>(&decoded)) unmarked.push_back(*data);
    if (std::holds_alternative<LogFlushed>(decoded)) {
      unmarked.clear();
      marked.data.clear();
    }
    const auto* mark = std::get_if<LogMark>(&decoded);
    if (mark == nullptr) return {};
    if (mark->flushed_to >= seq) return corrupt_error("read redo log", {}, "a mark covers what is behind it");
    marked.upto = std::max(marked.upto, mark->flushed_to);
    marked.data.insert(marked.data.end(), unmarked.begin(), unmarked.end());
    unmarked.clear();
    return {};
  }));
  return marked;
}

void apply_body(DeltaCore& core, std::uint64_t seq, const LogBody& body, DataEffects& effects) {
  if (const auto* set = std::get_if<tree::ChangeSet>(&body)) {
    for (const tree::Change& change : set->changes) core.state.apply(change, effects, seq);
    core.requests.add(set->request);
  } else if (const auto* numbers = std::get_if<LogNumbers>(&body)) {
    core.state.raise_next_ino(numbers->limit);
  }
}

/// Where there is no log. It is made before the directory of the data files and before anything is in the
/// checkpoint, on disk too. Errors: kCorrupt: there was one.
Result<void> check_never_used(const DeltaCore& core) {
  LAYERFS_ASSIGN(const auto data,
                 find_stat_at(AT_FDCWD, join_path(core.directory, "data"), AT_SYMLINK_NOFOLLOW));
  if (!data && (!core.checkpoint || core.checkpoint->size() == 0)) return {};
  return corrupt_error("open", log_path(core.directory), "the redo log is lost");
}

/// After a power failure, whose last record that can be reached is `reached`: what lies behind was written
/// early, unless a mark says that it must be there. The flush of one may have been under way, so it takes a
/// second: that one was appended when the flush of the first had ended. Errors: kCorrupt.
Result<void> check_marks_beyond(const DeltaCore& core, const RedoScan& scan, std::uint64_t reached) {
  int marks = 0;
  LAYERFS_TRY(scan.for_each_beyond(reached, [&](std::uint64_t, std::string_view body) -> Result<void> {
    const auto decoded = decode_body(body);
    const auto* mark = decoded ? std::get_if<LogMark>(&*decoded) : nullptr;
    if (mark != nullptr && mark->flushed_to > reached) ++marks;
    return {};
  }));
  if (marks < 2) return {};
  return corrupt_error("open", log_path(core.directory), "records that were flushed are damaged");
}

/// Applies what counts of the log to the state. Errors: kCorrupt.
Result<Replay> replay(DeltaCore& core, const std::optional<RedoScan>& scan, const CheckpointMeta& meta,
                      const BootId& boot_id, LogTail tail) {
  Replay found;
  found.last_seq = meta.covered;
  if (!scan) {
    LAYERFS_TRY(check_never_used(core));
    return found;
  }
  if (scan->header().start > meta.covered + 1)
    return corrupt_error("open", checkpoint_path(core.directory),
                         "it lacks changes that the redo log leaves to it");
  found.has_log = true;
  found.header = scan->header();
  const bool is_other_boot = boot_id == BootId{} || found.header.boot_id != boot_id;
  // Nobody flushed what a volatile life left when it was closed: data may be there that the checkpoint does not know.
  found.is_clean = scan->segment_count() == 0 && !(found.header.is_volatile && is_other_boot);
  found.power_failed = !found.is_clean && is_other_boot;
  std::uint64_t limit = UINT64_MAX;
  if (found.power_failed) {
    LAYERFS_ASSIGN(Marked marked, read_marks(*scan, meta.covered));
    limit = marked.upto;
    found.data = std::move(marked.data);
  }
  // The checkpoint's are the latest that it covers: the next one stores them, and not the log's older ones,
  // which may be there twice then.
  const std::vector<std::uint64_t> latest = core.requests.latest(kRequestsStored);
  LAYERFS_TRY(
      scan->for_each_below(meta.covered + 1, [&](std::uint64_t, std::string_view body) -> Result<void> {
        // Records that the checkpoint covers tell only which requests were done; damaged ones don't matter
        // any more.
        if (auto decoded = decode_body(body); decoded && std::holds_alternative<tree::ChangeSet>(*decoded))
          core.requests.add(std::get<tree::ChangeSet>(*decoded).request);
        return {};
      }));
  for (const std::uint64_t request : latest) core.requests.add(request);
  DataEffects effects;
  LAYERFS_ASSIGN(
      const std::uint64_t reached,
      scan->for_each_from(meta.covered + 1, [&](std::uint64_t seq, std::string_view body) -> Result<void> {
        if (seq > limit) return {};
        LAYERFS_ASSIGN(const LogBody decoded, decode_body(body));
        apply_body(core, seq, decoded, effects);
        found.last_seq = seq;
        return {};
      }));
  for (const tree::Ino ino : effects.to_flush) core.state.clear_to_flush(ino);
  std::erase_if(found.data, [&](const LogData& data) {
    const auto node = core.state.find_node(data.name.ino);
    return !node || node->content != data.name.content;  // erased since, or moved and flushed there
  });
  for (const DataName& name : effects.erased) {
    const auto node = core.state.find_node(name.ino);
    if (!node || node->content != name.content) found.erased.push_back(name);
  }
  if (found.last_seq < meta.needs)
    return corrupt_error("open", log_path(core.directory), "it ends before what the checkpoint needs");
  if (tail == LogTail::kMoves) {
    if (!is_other_boot && scan->has_records_beyond(reached))
      return corrupt_error("open", log_path(core.directory), "records in the middle are damaged");
  } else if (is_other_boot) {
    LAYERFS_TRY(check_marks_beyond(core, *scan, reached));
  } else if (const char* damage = scan->find_damage(reached)) {
    return corrupt_error("open", log_path(core.directory), damage);
  }
  return found;
}

/// The checkpoint into the state. Errors: kCorrupt, kUnsupported.
Result<CheckpointMeta> load_checkpoint(DeltaCore& core) {
  RecordLoader loader(core.state);
  LAYERFS_TRY(core.checkpoint->load(loader));
  if (loader.any() && !loader.meta())
    return corrupt_error("read checkpoint", {}, "it does not say what it covers");
  for (const std::uint64_t request : loader.requests()) core.requests.add(request);
  const CheckpointMeta meta = loader.meta().value_or(CheckpointMeta{});
  core.state.raise_next_ino(meta.next_ino);
  return meta;
}

/// The bytes of the log; empty where there is none.
Result<std::string> read_log(const std::string& directory) {
  auto log = open_upper_file(log_path(directory), O_RDONLY);
  if (!log && log.error().code == ENOENT) return std::string();
  if (!log) return std::unexpected(std::move(log).error());
  LAYERFS_ASSIGN(const struct stat st, stat_fd(log->get()));
  std::string bytes(std::min(static_cast<std::size_t>(st.st_size), kLongestLog), '\0');
  LAYERFS_ASSIGN(const std::size_t count,
                 pread_full(log->get(), std::as_writable_bytes(std::span(bytes)), 0));
  bytes.resize(count);
  return bytes;
}

template <class T>
Result<T> named(Result<T> result, const std::string& path) {
  if (!result && result.error().kind != ErrorKind::kSystem)
    return with_context(result.error(), "open delta", path);
  return result;
}

/// Brings the replayed state into the checkpoint and begins the log anew: its old records no longer count.
Result<void> start_over(DeltaCore& core, const RedoLog::Settings& settings, const RedoScan& scan,
                        Replay& found, std::uint64_t covered) {
  if (found.last_seq > covered) {
    if (!found.power_failed) LAYERFS_TRY(core.data->flush_all());
    const auto walk = [&](BodyVisitor visit) -> Result<void> {
      const auto visit_one = [&](std::uint64_t seq, std::string_view body) -> Result<void> {
        return seq <= found.last_seq ? visit(seq, body) : Result<void>{};
      };
      LAYERFS_TRY(scan.for_each_from(covered + 1, visit_one));
      return {};
    };
    const auto fill = [&](RecordSink& sink) -> Result<void> {
      LAYERFS_TRY(write_changed_records(core, sink, walk));
      LAYERFS_TRY(sink.put(kRequestsKey, encode_requests(core.requests.latest(kRequestsStored))));
      return sink.put(kMetaKey, encode_meta({found.last_seq, found.last_seq, core.state.next_ino()}));
    };
    LAYERFS_TRY(core.checkpoint->append(fill, Room::kTakeAll));
    core.covered = found.last_seq;
    // A volatile checkpoint did not flush itself, and the log that has the same is to be thrown away.
    if (settings.is_volatile && !found.header.is_volatile) LAYERFS_TRY(core.data->flush_all());
  }
  found.erased.clear();  // no earlier state is left
  LAYERFS_ASSIGN(core.log, RedoLog::start(log_path(core.directory), settings, found.last_seq + 1));
  return core.log->flush();
}

/// Puts the data of the log where it would be had the power not failed.
Result<void> restore_data(DeltaCore& core, const std::vector<LogData>& data) {
  if (data.empty()) return {};
  std::vector<DataName> names;
  for (const LogData& piece : data) {
    LAYERFS_TRY(core.data->restore(piece.name, piece.offset, piece.bytes));
    names.push_back(piece.name);
  }
  return core.data->flush(names);
}

/// After a crash: removes data that no inode has. What the log has erased goes with the next flush, which
/// puts that on disk (DELTA.md, invariant 5).
Result<void> remove_unnamed_data(DeltaCore& core, const Replay& found) {
  std::unordered_set<std::uint64_t> erased;
  std::vector<tree::Ino> erased_places;
  for (const DataName& name : found.erased) {
    if (name.is_shared())
      erased_places.push_back(name.ino);
    else
      erased.insert(to_number(name.ino));
  }
  core.data->note_shared(erased_places);
  core.data->doom(found.erased);
  core.unsaved.restore_erased({.files = {}, .ranges = {}, .erased = found.erased});
  return core.data->remove_unless([&](tree::Ino ino) {
    const auto node = core.state.find_node(ino);
    return (node && node->content == tree::ContentKind::kData) || erased.contains(to_number(ino));
  });
}

/// Holds what the state says of data files against what is there. A power failure leaves those shorter that
/// were cut after the last mark: where it is put right, they become as long as they are to be. That needs no
/// flush: until there is one, a power failure leaves a log that was not closed, so that it is done again.
/// Errors: kCorrupt.
Result<void> check_data(DeltaCore& core, const Replay& found) {
  LAYERFS_TRY(core.data->check_directories());
  const auto check = [&](const DataName& name, std::uint64_t length) -> Result<void> {
    LAYERFS_ASSIGN(const bool reaches, core.data->reaches(name, length));
    if (reaches) return {};
    if (!found.power_failed)
      return corrupt_error("open", fmt::format("data of inode {}", to_number(name.ino)),
                           "the data file is shorter than what was written to it");
    return core.data->access() == DataAccess::kReadOnly ? Result<void>{}
                                                        : core.data->make_reach(name, length);
  };
  // Of the places in a shared file the one that reaches farthest, so that each file is asked for once.
  std::unordered_map<std::uint64_t, std::pair<DataName, std::uint64_t>> farthest;
  LAYERFS_TRY(core.state.for_each_length([&](const DataName& name, std::uint64_t length) -> Result<void> {
    if (!name.is_shared()) return check(name, length);
    const auto [known, is_new] = farthest.try_emplace(file_of(name).number, name, length);
    const auto& [other, other_length] = known->second;
    if (!is_new && start_of(other) + other_length < start_of(name) + length) known->second = {name, length};
    return {};
  }));
  for (const auto& [number, one] : farthest) LAYERFS_TRY(check(one.first, one.second));
  return {};
}

/// The log to write on with, after what was found of one.
Result<void> continue_log(DeltaCore& core, const RedoLog::Settings& settings,
                          const std::optional<RedoScan>& scan, Replay& found, const CheckpointMeta& meta) {
  const std::string path = log_path(core.directory);
  const bool changes_mode = found.header.is_volatile != settings.is_volatile;
  // What a volatile life has not flushed is on disk before the header stops saying so (DELTA.md, "going on").
  if (changes_mode && !settings.is_volatile) LAYERFS_TRY(core.data->flush_all());
  if (found.is_clean) {
    LAYERFS_ASSIGN(core.log, RedoLog::start(path, settings, meta.covered + 1));
    // A volatile life that begins is on disk before what it changes may be.
    return changes_mode || settings.is_volatile ? core.log->flush() : Result<void>{};
  }
  if (found.power_failed || changes_mode || found.header.version != kRedoVersion)
    return start_over(core, settings, *scan, found, meta.covered);
  if (auto resumed = RedoLog::resume(path, settings, *scan, found.last_seq, meta.covered)) {
    core.log = std::move(*resumed);
    return {};
  } else if (resumed.error().kind != ErrorKind::kSystem) {
    return std::unexpected(std::move(resumed).error());
  } else {
    // It can't be flushed, or has no room: a checkpoint needs nothing of it.
    log_warning("go on with the redo log: {}; beginning a new one", resumed.error().message());
  }
  return start_over(core, settings, *scan, found, meta.covered);
}

Result<void> lock_delta(DeltaCore& core) {
  LAYERFS_TRY(make_dir(core.directory, 0700));
  LAYERFS_ASSIGN(core.dir, open_file(core.directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  const std::string path = lock_path(core.directory);
  LAYERFS_ASSIGN(core.lock, open_upper_file(path, O_RDWR | O_CREAT, 0600));
  LAYERFS_ASSIGN(const bool locked, lock_file(core.lock.get(), LockMode::kExclusive, LockWait::kNo));
  if (!locked) return system_error(EBUSY, "lock", path);
  return {};
}

Result<std::unique_ptr<tree::UpperLayer>> open_for_writing(std::unique_ptr<DeltaCore> core) {
  LAYERFS_TRY(lock_delta(*core));
  const BootId boot_id = core->tuning.boot_id ? core->tuning.boot_id() : current_boot_id();
  LAYERFS_ASSIGN(const std::string log_bytes, read_log(core->directory));
  LAYERFS_ASSIGN(const auto scan, named(RedoScan::scan(log_bytes), log_path(core->directory)));
  // Before the checkpoint is looked at: without flushes its bytes may be anything.
  if (scan && scan->header().is_volatile && scan->segment_count() != 0 && scan->header().boot_id != boot_id)
    return corrupt_error("open", core->directory,
                         "it was in use without flushing (volatile) when the machine went down; remove it");
  const std::string checkpoint = checkpoint_path(core->directory);
  const auto mode = core->options.is_volatile ? CheckpointMode::kVolatile : CheckpointMode::kDurable;
  LAYERFS_ASSIGN(core->checkpoint, CheckpointFile::open(checkpoint, mode, *core->sync));
  LAYERFS_ASSIGN(const CheckpointMeta meta, named(load_checkpoint(*core), checkpoint));
  // The process before may have died between the commit of a checkpoint and its flush, and nothing may lean on one
  // that a power failure takes back: no segment is given back, no data removed, no log begun anew for it.
  const bool was_durable = scan && !scan->header().is_volatile && scan->segment_count() != 0;
  if (was_durable && core->checkpoint->has_batch()) LAYERFS_TRY(core->checkpoint->flush());
  LAYERFS_ASSIGN(Replay found,
                 named(replay(*core, scan, meta, boot_id, LogTail::kStays), log_path(core->directory)));
  core->covered = meta.covered;
  RedoLog::Settings settings;
  settings.is_volatile = core->options.is_volatile;
  settings.max_segments = core->tuning.max_segments;
  settings.segment_size = core->tuning.segment_size;
  settings.sync = core->sync;
  settings.boot_id = boot_id;
  if (!found.has_log) {
    LAYERFS_ASSIGN(core->log, RedoLog::start(log_path(core->directory), settings, meta.covered + 1));
  }
  LAYERFS_ASSIGN(core->data, DeltaData::open(core->directory, DataAccess::kReadWrite, *core->sync));
  LAYERFS_TRY(restore_data(*core, found.data));
  LAYERFS_TRY(named(check_data(*core, found), core->directory));
  if (found.has_log) LAYERFS_TRY(continue_log(*core, settings, scan, found, meta));
  core->data->note_shared(core->state.sharers());
  if (!found.is_clean) LAYERFS_TRY(remove_unnamed_data(*core, found));
  // What the process before wrote may not be on disk, a mark in the log neither. So the first flush is of the
  // whole file system, before a second mark is appended (DELTA.md, "going on").
  if (!found.is_clean) core->unflushed.add_unknown();
  core->checkpoint->keep_reserve();
  core->last_change = core->log->last_seq();
  core->next_ino = core->state.next_ino();
  core->reserved_ino = core->state.next_ino();
  return std::unique_ptr<tree::UpperLayer>(std::make_unique<DeltaUpper>(std::move(core)));
}

bool has_writer(const std::string& directory) {
  const auto lock = open_upper_file(lock_path(directory), O_RDONLY);
  if (!lock) return false;
  const auto free = lock_file(lock->get(), LockMode::kShared, LockWait::kNo);
  return free && !*free;
}

struct ReadDelta {
  bool lacks_data = false;  ///< the log has data that the data files may not have
};

/// One attempt at reading what a writer may be changing. EAGAIN: it did.
Result<ReadDelta> read_once(DeltaCore& core, const BootId& boot_id) {
  // What a writer appends meanwhile may be seen without what it appended before.
  const LogTail tail = has_writer(core.directory) ? LogTail::kMoves : LogTail::kStays;
  LAYERFS_ASSIGN(core.dir, open_file(core.directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  LAYERFS_ASSIGN(core.data, DeltaData::open(core.directory, DataAccess::kReadOnly, *core.sync));
  CheckpointMeta meta;
  const std::string checkpoint = checkpoint_path(core.directory);
  auto opened = CheckpointFile::open(checkpoint, CheckpointMode::kReadOnly, *core.sync);
  if (!opened && opened.error().code != ENOENT) return std::unexpected(std::move(opened).error());
  if (opened) {
    core.checkpoint = std::move(*opened);
    LAYERFS_ASSIGN(meta, named(load_checkpoint(core), checkpoint));
  }
  LAYERFS_ASSIGN(const std::string log_bytes, read_log(core.directory));
  if (core.checkpoint) {
    LAYERFS_ASSIGN(const bool is_current, core.checkpoint->is_current());
    if (!is_current) return errno_error(EAGAIN);
  }
  LAYERFS_ASSIGN(const auto scan, named(RedoScan::scan(log_bytes), log_path(core.directory)));
  LAYERFS_ASSIGN(const Replay found,
                 named(replay(core, scan, meta, boot_id, tail), log_path(core.directory)));
  if (found.power_failed && found.header.is_volatile && scan->segment_count() != 0)
    return corrupt_error("open", core.directory,
                         "it was in use without flushing (volatile) when the machine went down; remove it");
  if (found.data.empty()) LAYERFS_TRY(named(check_data(core, found), core.directory));
  core.next_ino = core.state.next_ino();
  return ReadDelta{!found.data.empty()};
}

std::unique_ptr<DeltaCore> make_core(const std::string& directory, DeltaOptions options,
                                     const DeltaTuning& tuning) {
  auto core = std::make_unique<DeltaCore>();
  core->directory = directory;
  core->options = options;
  core->tuning = tuning;
  if (tuning.sync != nullptr) core->sync = tuning.sync;
  return core;
}

Result<std::unique_ptr<tree::UpperLayer>> open_for_reading(const std::string& directory, DeltaOptions options,
                                                           const DeltaTuning& tuning) {
  const BootId boot_id = tuning.boot_id ? tuning.boot_id() : current_boot_id();
  for (int attempt = 1;; ++attempt) {
    const bool had_writer = has_writer(directory);
    auto core = make_core(directory, options, tuning);
    auto read = read_once(*core, boot_id);
    if (read && read->lacks_data) {
      // As a file system replays its journal to be mounted read-only.
      auto recovered = open_for_writing(make_core(directory, {}, tuning));
      if (recovered) continue;
      // Another one is about to do so.
      if (recovered.error().code != EBUSY || attempt == kReadAttempts)
        return std::unexpected(std::move(recovered).error());
    } else if (read) {
      return std::unique_ptr<tree::UpperLayer>(std::make_unique<DeltaUpper>(std::move(core)));
    } else {
      // What looks damaged may be segments that were given back meanwhile, if there was somebody who writes.
      const bool may_change = read.error().code == EAGAIN || (read.error().kind == ErrorKind::kCorrupt &&
                                                              (had_writer || has_writer(directory)));
      if (!may_change || attempt == kReadAttempts) return std::unexpected(std::move(read).error());
    }
    std::this_thread::sleep_for(kReadPause);
  }
}

}  // namespace

BootId current_boot_id() {
  BootId id{};
  const auto text = read_file("/proc/sys/kernel/random/boot_id", 256);
  if (!text) return id;
  std::size_t digits = 0;
  for (const char c : *text) {
    if (std::isxdigit(static_cast<unsigned char>(c)) == 0) continue;
    const int value = std::isdigit(static_cast<unsigned char>(c)) != 0 ? c - '0' : (c | 0x20) - 'a' + 10;
    if (digits < 2 * id.size()) id[digits / 2] = static_cast<std::uint8_t>(id[digits / 2] << 4 | value);
    ++digits;
  }
  return digits == 2 * id.size() ? id : BootId{};
}

Result<std::unique_ptr<tree::UpperLayer>> open_delta_with(const std::string& directory, DeltaOptions options,
                                                          const DeltaTuning& tuning) {
  if (options.read_only) return open_for_reading(directory, options, tuning);
  return open_for_writing(make_core(directory, options, tuning));
}

Result<std::unique_ptr<tree::UpperLayer>> open_delta(const std::string& directory, DeltaOptions options) {
  return open_delta_with(directory, options, {});
}

}  // namespace layerfs::upper
