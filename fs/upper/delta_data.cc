// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/delta_data.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "fs/base/log.h"
#include "fs/base/sys_file.h"

namespace layerfs::upper {

namespace {

/// More files than this are flushed by one syncfs(2): each fdatasync(2) of a new file commits the journal.
constexpr std::size_t kFlushOneByOne = 32;

/// Neighbouring numbers share a directory, because files made together are read together.
std::uint8_t directory_of(tree::Ino ino) { return static_cast<std::uint8_t>(to_number(ino) / 64); }
std::string directory_name(std::uint8_t index) { return fmt::format("{:02x}", index); }
std::string file_name(tree::Ino ino) { return fmt::format("{:02x}/{}", directory_of(ino), to_number(ino)); }

std::optional<tree::Ino> find_ino(std::string_view name) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc{} || end != name.data() + name.size() || name.front() == '0') return std::nullopt;
  return tree::Ino{number};
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
  auto opened = open_file(path, O_RDONLY | O_DIRECTORY);
  // Read-only: a delta that never had a data file may not have the directory either.
  if (opened)
    dir = std::move(*opened);
  else if (access == DataAccess::kReadWrite || opened.error().code != ENOENT)
    return std::unexpected(std::move(opened).error());
  return std::unique_ptr<DeltaData>(new DeltaData(std::move(dir), access, sync));
}

Result<std::shared_ptr<const Fd>> DeltaData::open_locked(tree::Ino ino, int flags) const {
  if (!dir_) return errno_error(ENOENT);
  auto& held = held_[to_number(ino)];
  if (auto alive = held.lock()) return alive;
  const int fd = openat(dir_.get(), file_name(ino).c_str(), flags | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) {
    const int code = errno;
    held_.erase(to_number(ino));
    return errno_error(code);
  }
  auto file = std::make_shared<const Fd>(fd);
  held = file;
  if (held_.size() >= sweep_at_) {
    std::erase_if(held_, [](const auto& one) { return one.second.expired(); });
    sweep_at_ = std::max<std::size_t>(256, held_.size() * 2);
  }
  return file;
}

Result<std::shared_ptr<const Fd>> DeltaData::create(tree::Ino ino) {
  if (access_ == DataAccess::kReadOnly) return errno_error(EROFS);
  const std::lock_guard lock(mutex_);
  if (doomed_.erase(to_number(ino)) != 0) LAYERFS_TRY(remove_locked(ino));
  auto opened = open_locked(ino, O_RDWR | O_CREAT);
  if (!opened && opened.error().code == ENOENT) {
    const std::string name = directory_name(directory_of(ino));
    if (mkdirat(dir_.get(), name.c_str(), 0700) != 0 && errno != EEXIST) return errno_error(errno);
    made_directories_ = true;
    opened = open_locked(ino, O_RDWR | O_CREAT);
  }
  if (opened) new_in_.set(directory_of(ino));
  return opened;
}

Result<std::shared_ptr<const Fd>> DeltaData::open(tree::Ino ino) const {
  const std::lock_guard lock(mutex_);
  if (doomed_.contains(to_number(ino))) return errno_error(ENOENT);
  return open_locked(ino, access_ == DataAccess::kReadOnly ? O_RDONLY : O_RDWR);
}

void DeltaData::doom(std::span<const tree::Ino> inos) {
  const std::lock_guard lock(mutex_);
  for (const tree::Ino ino : inos) doomed_.insert(to_number(ino));
}

Result<void> DeltaData::remove_doomed(std::span<const tree::Ino> inos) {
  for (const tree::Ino ino : inos) {
    // Taken anew for each file, so that nobody waits for a long list.
    const std::lock_guard lock(mutex_);
    if (!doomed_.contains(to_number(ino))) continue;
    LAYERFS_TRY(remove_locked(ino));
    doomed_.erase(to_number(ino));
  }
  return {};
}

Result<void> DeltaData::remove_locked(tree::Ino ino) {
  held_.erase(to_number(ino));
  if (unlinkat(dir_.get(), file_name(ino).c_str(), 0) != 0 && errno != ENOENT)
    return system_error(errno, "remove data file", file_name(ino));
  return {};
}

Result<void> DeltaData::remove_unless(FunctionRef<bool(tree::Ino ino)> is_wanted) {
  for (unsigned index = 0; index < 256; ++index) {
    const std::string name = directory_name(static_cast<std::uint8_t>(index));
    auto sub = open_at(dir_.get(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!sub) {
      if (sub.error().code == ENOENT) continue;
      return std::unexpected(std::move(sub).error());
    }
    LAYERFS_ASSIGN(const auto files, list_dir_at(sub->get()));
    for (const std::string& file : files) {
      const auto ino = find_ino(file);
      if (ino && directory_of(*ino) == index && is_wanted(*ino)) continue;
      log_debug("removing data file '{}/{}': no inode has it", name, file);
      LAYERFS_TRY(unlink_at(sub->get(), file, 0));
    }
  }
  return {};
}

Result<void> DeltaData::flush_new_directories() {
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
    auto sub = open_at(dir_.get(), directory_name(static_cast<std::uint8_t>(index)), O_RDONLY | O_DIRECTORY);
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

Result<void> DeltaData::flush(std::span<const tree::Ino> inos) {
  if (inos.size() > kFlushOneByOne) return flush_all();
  for (const tree::Ino ino : inos) {
    auto file = open(ino);
    if (!file && file.error().code == ENOENT) continue;  // erased since
    if (!file) return std::unexpected(std::move(file).error());
    LAYERFS_TRY(sync_.sync_data((*file)->get()));
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
