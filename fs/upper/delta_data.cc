// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/delta_data.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include "fs/base/bytes.h"
#include "fs/base/log.h"
#include "fs/base/own_files.h"
#include "fs/base/sys_file.h"

namespace layerfs::upper {

namespace {

/// More files than this are flushed by one syncfs(2): each fdatasync(2) of a new file commits the journal.
constexpr std::size_t kFlushOneByOne = 32;

/// The name of a directory of data files in data/.
std::string directory_name(std::uint8_t index) { return fmt::format("{:02x}", index); }

std::optional<std::uint64_t> find_number(std::string_view name) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc{} || end != name.data() + name.size() || (name.front() == '0' && name.size() > 1))
    return std::nullopt;
  return number;
}

}  // namespace

Result<void> SyncOps::sync_data(int fd) { return layerfs::sync_data(fd); }
Result<void> SyncOps::sync_all(int fd) { return layerfs::sync_fd(fd); }
Result<void> SyncOps::sync_file_system(int fd) {
  if (syncfs(fd) != 0) return system_error(errno, "flush file system");
  return {};
}

DeltaData::DeltaData(Fd dir, DataAccess access, SyncOps& sync)
    : dir_(std::move(dir)), access_(access), sync_(sync) {}

Result<std::unique_ptr<DeltaData>> DeltaData::open(const std::string& directory, DataAccess access,
                                                   SyncOps& sync) {
  const std::string path = join_path(directory, "data");
  Fd dir;
  if (access == DataAccess::kReadWrite) LAYERFS_TRY(make_dir(path, 0700));
  auto opened = open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  // Read-only: a delta that never had a data file may not have the directory either.
  if (opened)
    dir = std::move(*opened);
  else if (access == DataAccess::kReadWrite || opened.error().code != ENOENT)
    return std::unexpected(std::move(opened).error());
  return std::unique_ptr<DeltaData>(new DeltaData(std::move(dir), access, sync));
}

/// Neighbouring numbers share a directory, because files made together are read together.
std::uint8_t DeltaData::directory_of(const DataFile& file) {
  return static_cast<std::uint8_t>(file.is_shared ? file.number : file.number / kSharers);
}

std::string DeltaData::name_of(const DataFile& file) {
  return fmt::format("{:02x}/{}{}", directory_of(file), file.is_shared ? "s" : "", file.number);
}

std::optional<DataFile> DeltaData::find_file(std::string_view name) {
  const bool is_shared = name.starts_with('s');
  const auto number = find_number(name.substr(is_shared ? 1 : 0));
  if (!number) return std::nullopt;
  return DataFile{*number, is_shared};
}

tree::DataPlace DeltaData::place_of(tree::Ino ino, std::shared_ptr<const Fd> file) {
  return {std::move(file), start_of({ino, tree::ContentKind::kShared}), tree::kSharedLimit};
}

int DeltaData::open_flags() const { return access_ == DataAccess::kReadOnly ? O_RDONLY : O_RDWR; }

Result<std::shared_ptr<const Fd>> DeltaData::open_locked(const DataFile& file, int flags) const {
  if (!dir_) return errno_error(ENOENT);
  auto& held = held_[file];
  if (auto alive = held.lock()) return alive;
  auto fd = open_own_at(dir_.get(), name_of(file), flags, 0600);
  if (!fd) {
    held_.erase(file);
    return std::unexpected(std::move(fd).error());
  }
  auto opened = std::make_shared<const Fd>(std::move(*fd));
  held = opened;
  if (held_.size() >= sweep_at_) {
    std::erase_if(held_, [](const auto& one) { return one.second.expired(); });
    sweep_at_ = std::max<std::size_t>(256, held_.size() * 2);
  }
  return opened;
}

Result<std::shared_ptr<const Fd>> DeltaData::create_locked(const DataFile& file) {
  auto opened = open_locked(file, O_RDWR | O_CREAT);
  if (!opened && opened.error().code == ENOENT) {
    const std::string name = directory_name(directory_of(file));
    if (mkdirat(dir_.get(), name.c_str(), 0700) != 0 && errno != EEXIST) return errno_error(errno);
    made_directories_ = true;
    opened = open_locked(file, O_RDWR | O_CREAT);
  }
  if (opened) new_in_.set(directory_of(file));
  return opened;
}

Result<std::shared_ptr<const Fd>> DeltaData::create(tree::Ino ino) {
  if (access_ == DataAccess::kReadOnly) return errno_error(EROFS);
  const DataFile file{to_number(ino), false};
  const std::lock_guard lock(mutex_);
  if (doomed_.erase(file.number) != 0) LAYERFS_TRY(remove_locked(file));
  return create_locked(file);
}

Result<std::shared_ptr<const Fd>> DeltaData::open(tree::Ino ino) const {
  const std::lock_guard lock(mutex_);
  if (doomed_.contains(to_number(ino))) return errno_error(ENOENT);
  return open_locked({to_number(ino), false}, open_flags());
}

Result<tree::DataPlace> DeltaData::create_shared(tree::Ino ino) {
  if (access_ == DataAccess::kReadOnly) return errno_error(EROFS);
  const DataFile file = file_of({ino, tree::ContentKind::kShared});
  const std::size_t index = to_number(ino) % kSharers;
  const std::lock_guard lock(mutex_);
  Places& used = used_[file.number];
  if (used.test(index)) {
    // The place was given out before: by an attempt whose change then failed, or to a file that was erased
    // and whose place was not given back yet.
    Places one;
    one.set(index);
    LAYERFS_TRY(give_back_locked(file, one));
  }
  LAYERFS_ASSIGN(auto opened, create_locked(file));
  // The file is made as long as all of its places at once, so that a shorter one is known to be damaged.
  LAYERFS_ASSIGN(const struct stat st, stat_fd(opened->get()));
  constexpr auto kWhole = static_cast<off_t>(kSharers * tree::kSharedLimit);
  if (st.st_size < kWhole && ftruncate(opened->get(), kWhole) != 0) return errno_error(errno);
  used_[file.number].set(index);
  return place_of(ino, std::move(opened));
}

Result<tree::DataPlace> DeltaData::open_shared(tree::Ino ino) const {
  const DataFile file = file_of({ino, tree::ContentKind::kShared});
  const std::size_t index = to_number(ino) % kSharers;
  const auto has = [&](const auto& places) {
    const auto found = places.find(file.number);
    return found != places.end() && found->second.test(index);
  };
  const std::lock_guard lock(mutex_);
  // A reader has no list of places in use: that the node says kShared is all it knows.
  if (access_ == DataAccess::kReadWrite && (!has(used_) || has(doomed_places_))) return errno_error(ENOENT);
  LAYERFS_ASSIGN(auto opened, open_locked(file, open_flags()));
  return place_of(ino, std::move(opened));
}

void DeltaData::note_shared(std::span<const tree::Ino> inos) {
  const std::lock_guard lock(mutex_);
  for (const tree::Ino ino : inos) used_[to_number(ino) / kSharers].set(to_number(ino) % kSharers);
}

Result<void> DeltaData::keep_shared(std::span<const tree::Ino> inos) {
  std::unordered_map<std::uint64_t, Places> kept;
  for (const tree::Ino ino : inos) kept[to_number(ino) / kSharers].set(to_number(ino) % kSharers);
  const std::lock_guard lock(mutex_);
  std::vector<std::pair<std::uint64_t, Places>> others;
  for (const auto& [number, places] : used_)
    if (const Places rest = places & ~kept[number]; rest.any()) others.emplace_back(number, rest);
  for (const auto& [number, rest] : others) LAYERFS_TRY(give_back_locked({number, true}, rest));
  return {};
}

void DeltaData::doom(std::span<const DataName> names) {
  const std::lock_guard lock(mutex_);
  for (const DataName& name : names) {
    if (name.is_shared())
      doomed_places_[file_of(name).number].set(to_number(name.ino) % kSharers);
    else
      doomed_.insert(to_number(name.ino));
  }
}

bool DeltaData::has_doomed() const {
  const std::lock_guard lock(mutex_);
  return !doomed_.empty() || !doomed_places_.empty();
}

Result<void> DeltaData::remove_doomed(std::span<const DataName> names) {
  std::map<std::uint64_t, Places> shared;
  for (const DataName& name : names) {
    if (name.is_shared()) {
      shared[file_of(name).number].set(to_number(name.ino) % kSharers);
      continue;
    }
    // The lock is taken anew for each file, so that no other caller waits for a long list.
    const std::lock_guard lock(mutex_);
    if (!doomed_.contains(to_number(name.ino))) continue;
    LAYERFS_TRY(remove_locked(file_of(name)));
    doomed_.erase(to_number(name.ino));
  }
  for (const auto& [number, places] : shared) {
    const std::lock_guard lock(mutex_);
    const auto doomed = doomed_places_.find(number);
    if (doomed != doomed_places_.end())
      LAYERFS_TRY(give_back_locked({number, true}, places & doomed->second));
  }
  return {};
}

Result<void> DeltaData::remove_locked(const DataFile& file) {
  held_.erase(file);
  const std::string name = name_of(file);
  const std::size_t slash = name.find('/');
  auto sub = open_own_at(dir_.get(), name.substr(0, slash), O_PATH | O_DIRECTORY);
  if (!sub && sub.error().code == ENOENT) return {};
  if (!sub) return std::unexpected(std::move(sub).error());
  if (unlinkat(sub->get(), name.c_str() + slash + 1, 0) != 0 && errno != ENOENT)
    return system_error(errno, "remove data file", name);
  return {};
}

/// Makes the places of a shared file that of nobody, and removes the file with its last one.
Result<void> DeltaData::give_back_locked(const DataFile& file, const Places& places) {
  const auto used = used_.find(file.number);
  if (used == used_.end()) return {};
  if ((used->second & ~places).none()) {
    LAYERFS_TRY(remove_locked(file));
    used_.erase(used);
    doomed_places_.erase(file.number);
    return {};
  }
  auto opened = open_locked(file, O_RDWR);
  if (!opened && opened.error().code != ENOENT) return std::unexpected(std::move(opened).error());
  for (std::size_t first = 0; opened && first < places.size();) {
    std::size_t end = first;
    while (end < places.size() && places.test(end)) ++end;
    if (end > first)
      LAYERFS_TRY(
          zero_range((*opened)->get(), first * tree::kSharedLimit, (end - first) * tree::kSharedLimit));
    first = end + 1;
  }
  used->second &= ~places;
  if (const auto doomed = doomed_places_.find(file.number); doomed != doomed_places_.end()) {
    doomed->second &= ~places;
    if (doomed->second.none()) doomed_places_.erase(doomed);
  }
  return {};
}

/// After a crash: bytes may be in places whose node was never put, or was put as another kind.
Result<void> DeltaData::keep_used_places(const DataFile& file) {
  const std::lock_guard lock(mutex_);
  const auto used = used_.find(file.number);
  const Places kept = used == used_.end() ? Places{} : used->second;
  if (kept.none()) return remove_locked(file);
  used->second.set();
  auto given = give_back_locked(file, ~kept);
  used_[file.number] = kept;
  return given;
}

Result<void> DeltaData::remove_unless(FunctionRef<bool(tree::Ino ino)> is_wanted) {
  for (unsigned index = 0; index < 256; ++index) {
    const std::string name = directory_name(static_cast<std::uint8_t>(index));
    auto sub = open_own_at(dir_.get(), name, O_RDONLY | O_DIRECTORY);
    if (!sub) {
      if (sub.error().code == ENOENT) continue;
      return std::unexpected(std::move(sub).error());
    }
    LAYERFS_ASSIGN(const auto files, list_dir_at(sub->get()));
    for (const std::string& name_there : files) {
      const auto file = find_file(name_there);
      const bool is_ours = file && directory_of(*file) == index;
      if (is_ours && file->is_shared) {
        LAYERFS_TRY(keep_used_places(*file));
        continue;
      }
      if (is_ours && is_wanted(tree::Ino{file->number})) continue;
      log_debug("removing data file '{}/{}': no inode has it", name, name_there);
      LAYERFS_TRY(unlink_at(sub->get(), name_there, 0));
    }
  }
  return {};
}

Result<void> DeltaData::check_directories() const {
  for (unsigned index = 0; dir_ && index < 256; ++index) {
    const std::string name = directory_name(static_cast<std::uint8_t>(index));
    LAYERFS_ASSIGN(const auto st, find_stat_at(dir_.get(), name, AT_SYMLINK_NOFOLLOW));
    if (st && !S_ISDIR(st->st_mode)) return corrupt_error("open", "data/" + name, "it is no directory");
  }
  return {};
}

Result<bool> DeltaData::reaches(const DataName& name, std::uint64_t length) const {
  const std::string path = name_of(file_of(name));
  std::optional<struct stat> st;
  if (dir_) {
    LAYERFS_ASSIGN(st, find_stat_at(dir_.get(), path, AT_SYMLINK_NOFOLLOW));
  }
  if (!st) return corrupt_error("open", "data/" + path, "the data file is lost");
  if (!S_ISREG(st->st_mode)) return corrupt_error("open", "data/" + path, "it is no regular file");
  return static_cast<std::uint64_t>(st->st_size) >= start_of(name) + length;
}

Result<void> DeltaData::make_reach(const DataName& name, std::uint64_t length) {
  LAYERFS_ASSIGN(const bool is_long, reaches(name, length));
  if (is_long) return {};
  const std::lock_guard lock(mutex_);
  LAYERFS_ASSIGN(const auto file, open_locked(file_of(name), open_flags()));
  if (ftruncate(file->get(), static_cast<off_t>(start_of(name) + length)) != 0)
    return system_error(errno, "extend data file", name_of(file_of(name)));
  return {};
}

Result<std::string> DeltaData::read(const DataName& name, std::uint64_t offset, std::size_t length) const {
  std::shared_ptr<const Fd> file;
  {
    const std::lock_guard lock(mutex_);
    LAYERFS_ASSIGN(file, open_locked(file_of(name), open_flags()));
  }
  std::string bytes(length, '\0');
  LAYERFS_ASSIGN(const std::size_t count,
                 pread_full(file->get(), std::as_writable_bytes(std::span(bytes)), start_of(name) + offset));
  bytes.resize(count);
  return bytes;
}

Result<void> DeltaData::restore(const DataName& name, std::uint64_t offset, std::string_view bytes) {
  const std::lock_guard lock(mutex_);
  LAYERFS_ASSIGN(const auto file, create_locked(file_of(name)));
  return pwrite_full(file->get(), as_bytes(bytes), start_of(name) + offset);
}

/// Whoever finds none to flush may rely on all: another one that is at work is waited for.
Result<void> DeltaData::flush_new_directories() {
  const std::lock_guard flush_lock(directories_mutex_);
  std::bitset<256> new_in;
  bool made = false;
  {
    const std::lock_guard lock(mutex_);
    std::swap(new_in, new_in_);
    std::swap(made, made_directories_);
  }
  Result<void> first;
  for (std::size_t index = 0; index < new_in.size() && first; ++index) {
    if (!new_in.test(index)) continue;
    auto sub =
        open_own_at(dir_.get(), directory_name(static_cast<std::uint8_t>(index)), O_RDONLY | O_DIRECTORY);
    if (sub)
      first = sync_.sync_all(sub->get());
    else if (sub.error().code != ENOENT)
      first = std::unexpected(std::move(sub).error());
  }
  if (first && made) first = sync_.sync_all(dir_.get());
  if (!first) {
    const std::lock_guard lock(mutex_);
    new_in_ |= new_in;
    made_directories_ = made_directories_ || made;
  }
  return first;
}

Result<void> DeltaData::flush(std::span<const DataName> names) {
  std::set<DataFile> files;
  for (const DataName& name : names) files.insert(file_of(name));
  if (files.size() > kFlushOneByOne) return flush_all();
  for (const DataFile& file : files) {
    auto opened = [&] {
      const std::lock_guard lock(mutex_);
      return open_locked(file, open_flags());
    }();
    if (!opened && opened.error().code == ENOENT) continue;  // erased since
    if (!opened) return std::unexpected(std::move(opened).error());
    LAYERFS_TRY(sync_.sync_data((*opened)->get()));
  }
  return flush_new_directories();
}

Result<void> DeltaData::flush_all() {
  {
    const std::lock_guard lock(mutex_);
    new_in_.reset();
    made_directories_ = false;
  }
  auto flushed = sync_.sync_file_system(dir_.get());
  if (!flushed) {
    const std::lock_guard lock(mutex_);
    new_in_.set();  // not known any more which
    made_directories_ = true;
  }
  return flushed;
}

}  // namespace layerfs::upper
