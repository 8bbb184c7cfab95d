// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/delta_upper.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "fs/base/log.h"
#include "fs/upper/crc32c.h"
#include "fs/upper/delta_codec.h"
#include "fs/upper/delta_upper_impl.h"

namespace layerfs::upper {

namespace {

/// How many inode numbers one record of the log reserves.
constexpr std::uint64_t kNumbersAtOnce = 4096;
/// How often a change waits for a checkpoint that makes room in the log. Other changes may take that room
/// before it.
constexpr int kRoomAttempts = 8;
/// A thread keeps its buffer from one change to the next, but not where a large change made it longer than
/// this.
constexpr std::size_t kKeptBuffer = 64U << 10;

/// A change that removes something may use the part of the log that is kept for it. Without that part no file
/// could be removed once the disk is full.
AppendKind kind_of(const tree::ChangeSet& change) {
  const bool frees = std::any_of(change.changes.begin(), change.changes.end(), [](const tree::Change& one) {
    return std::holds_alternative<tree::EraseNode>(one) || std::holds_alternative<tree::EraseEntry>(one) ||
           std::holds_alternative<tree::PutTombstone>(one) || std::holds_alternative<tree::TrimExtents>(one);
  });
  return frees ? AppendKind::kFreeing : AppendKind::kNormal;
}

}  // namespace

DeltaUpper::DeltaUpper(std::unique_ptr<DeltaCore> core) : core_(std::move(core)), persister_(*core_) {
  if (!read_only()) persister_.start();
}

DeltaUpper::~DeltaUpper() {
  if (read_only()) return;
  persister_.stop();
  if (auto closed = persister_.close(); !closed)
    log_error("close delta '{}': {}; its log is kept", core_->directory, closed.error().message());
}

std::optional<tree::Node> DeltaUpper::find_node(tree::Ino ino) const {
  const std::shared_lock lock(core_->state_mutex);
  return core_->state.find_node(ino);
}

tree::UpperEntry DeltaUpper::find_entry(tree::Ino dir, std::string_view name) const {
  const std::shared_lock lock(core_->state_mutex);
  return core_->state.find_entry(dir, name);
}

void DeltaUpper::list_entries(tree::Ino dir, tree::DirCookie after,
                              FunctionRef<bool(const tree::UpperEntryView&)> visit) const {
  const std::shared_lock lock(core_->state_mutex);
  core_->state.list_entries(dir, after, visit);
}

tree::XattrState DeltaUpper::find_xattr(tree::Ino ino, std::string_view name, std::string& value) const {
  const std::shared_lock lock(core_->state_mutex);
  return core_->state.find_xattr(ino, name, value);
}

void DeltaUpper::list_xattrs(
    tree::Ino ino, FunctionRef<bool(std::string_view, tree::XattrState, std::string_view)> visit) const {
  const std::shared_lock lock(core_->state_mutex);
  core_->state.list_xattrs(ino, visit);
}

Result<std::string> DeltaUpper::get_inline(tree::Ino ino) const {
  const std::shared_lock lock(core_->state_mutex);
  const std::string* bytes = core_->state.find_inline(ino);
  if (bytes == nullptr) return errno_error(ENOENT);
  return *bytes;
}

std::vector<tree::Extent> DeltaUpper::extents(tree::Ino ino) const {
  const std::shared_lock lock(core_->state_mutex);
  return core_->state.extents(ino);
}

std::vector<tree::Extent> DeltaUpper::extents_within(tree::Ino ino, std::uint64_t begin,
                                                     std::uint64_t end) const {
  const std::shared_lock lock(core_->state_mutex);
  return core_->state.extents_within(ino, begin, end);
}

std::vector<tree::Ino> DeltaUpper::orphans() const {
  const std::shared_lock lock(core_->state_mutex);
  return core_->state.orphans();
}

void DeltaUpper::for_each_changed(FunctionRef<bool(tree::Ino, const tree::ChangedParts&)> visit) const {
  const std::shared_lock lock(core_->state_mutex);
  core_->state.for_each_changed(visit);
}

Result<void> DeltaUpper::apply(const tree::ChangeSet& change) {
  if (read_only()) return errno_error(EROFS);
  if (change.changes.empty() && change.request == 0) return {};
  thread_local std::string body;
  body.clear();
  LAYERFS_TRY(append_changes(body, change));
  const std::uint32_t body_crc = crc32c(body);
  const AppendKind kind = kind_of(change);
  Result<void> done;
  for (int attempt = 0; attempt < kRoomAttempts; ++attempt) {
    {
      const std::lock_guard lock(core_->write_mutex);
      done = append_and_apply_locked(body, body_crc, kind, change);
    }
    if (done || done.error().code == E2BIG) break;
    // The log is full or can't grow. A checkpoint gives its segments back; where there can be none, the
    // change fails with the error of the checkpoint.
    if (auto made = persister_.make_room(); !made) {
      done = std::move(made);
      break;
    }
  }
  if (done && kind == AppendKind::kFreeing) persister_.note_removal();
  if (body.capacity() > kKeptBuffer) body = std::string();
  return done;
}

Result<void> DeltaUpper::append_and_apply_locked(std::string_view body, std::uint32_t body_crc,
                                                 AppendKind kind, const tree::ChangeSet& change) {
  LAYERFS_ASSIGN(core_->last_change, core_->log->append(body, body_crc, kind));
  apply_appended_locked(change);
  return {};
}

void DeltaUpper::apply_appended_locked(const tree::ChangeSet& change) noexcept {
  core_->requests.add(change.request);
  DataEffects effects;
  {
    const std::unique_lock state_lock(core_->state_mutex);
    for (const tree::Change& one : change.changes) core_->state.apply(one, effects, core_->last_change);
  }
  if (!effects.erased.empty()) core_->data->doom(effects.erased);
  const std::uint64_t erased_before = core_->unsaved.erased_bytes();
  if (core_->unsaved.add(effects, change.written)) persister_.note_change();
  const std::uint64_t limit = persister_.erased_limit();
  const bool has_much_to_remove = erased_before < limit && core_->unsaved.erased_bytes() >= limit;
  if (core_->log->take_attention() || has_much_to_remove) persister_.wake();
}

bool DeltaUpper::was_applied(std::uint64_t request) const {
  const std::lock_guard lock(core_->write_mutex);
  return core_->requests.contains(request);
}

tree::Ino DeltaUpper::allocate_ino() {
  const std::uint64_t number = core_->next_ino.fetch_add(1);
  if (number >= core_->reserved_ino.load() && !read_only()) reserve_numbers(number);
  return tree::Ino{number};
}

/// Keeps numbers that were given out from being given out again after a crash. Where the log is full nothing
/// is recorded: a change that uses the number either fails as well, or its own record names the number.
void DeltaUpper::reserve_numbers(std::uint64_t number) {
  const std::lock_guard lock(core_->write_mutex);
  if (number < core_->reserved_ino.load()) return;
  std::string body;
  append_numbers(body, {number + kNumbersAtOnce});
  auto added = core_->log->append(body, crc32c(body), AppendKind::kNormal);
  if (!added) return;
  core_->last_change = *added;
  core_->reserved_ino = number + kNumbersAtOnce;
  if (core_->unsaved.add_change()) persister_.note_change();
}

Result<std::shared_ptr<const Fd>> DeltaUpper::create_data(tree::Ino ino) { return core_->data->create(ino); }
Result<std::shared_ptr<const Fd>> DeltaUpper::open_data(tree::Ino ino) const {
  return core_->data->open(ino);
}

Result<tree::DataPlace> DeltaUpper::create_shared(tree::Ino ino) { return core_->data->create_shared(ino); }
Result<tree::DataPlace> DeltaUpper::open_shared(tree::Ino ino) const { return core_->data->open_shared(ino); }

Result<void> DeltaUpper::sync_node(tree::Ino ino, tree::FsyncKind kind) {
  if (read_only() || core_->options.is_volatile) return {};
  if (kind == tree::FsyncKind::kDataOnly) {
    std::vector<DataName> names;
    std::uint64_t needed = 0;
    {
      const std::shared_lock lock(core_->state_mutex);
      names = core_->state.data_names(std::span(&ino, 1));
      needed = core_->state.needed_record(ino);
    }
    // Where the log has data of the file, a power failure would have that data written over what is flushed
    // here (DELTA.md, invariant 9).
    const bool is_in_log = std::any_of(
        names.begin(), names.end(), [&](const DataName& name) { return core_->unflushed.may_contain(name); });
    if (!is_in_log && needed <= persister_.flushed_to()) return core_->data->flush(names);
  }
  return persister_.persist(DeltaPersister::Extent::kFlush, ino);
}

Result<void> DeltaUpper::sync() {
  if (read_only() || core_->options.is_volatile) return {};
  return persister_.persist(DeltaPersister::Extent::kCheckpoint, std::nullopt);
}

bool DeltaUpper::give_back() {
  return !read_only() && core_->data->has_doomed() &&
         persister_.persist(DeltaPersister::Extent::kFlush, std::nullopt).has_value();
}

Result<struct statvfs> DeltaUpper::stat_fs() const {
  struct statvfs space{};
  if (fstatvfs(core_->dir.get(), &space) != 0) return errno_error(errno);
  return space;
}

}  // namespace layerfs::upper
