// SPDX-License-Identifier: Apache-2.0
// Shadow: what a power failure leaves of a delta. The flushing calls are recorded: it has each file as it was
// when that was last flushed. The disk after a failure is that, with any newer pages of those files and any
// newer data files, because the kernel may have written them early.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>

#include "fs/base/bytes.h"
#include "fs/base/sys_file.h"
#include "fs/upper/delta_open.h"
#include "tests/upper/delta_model.h"

namespace layerfs::upper {

namespace stdfs = std::filesystem;

inline BootId boot(std::uint8_t number) {
  BootId id{};
  id.fill(number);
  return id;
}

class Shadow final : public SyncOps {
 public:
  /// What is in `real` already, if it is there, counts as flushed.
  explicit Shadow(std::string real) : real_(std::move(real)) {
    if (stdfs::exists(real_)) keep_all();
  }

  Result<void> sync_data(int fd) override {
    begin_sync();
    const std::lock_guard lock(mutex_);
    const std::string path = stdfs::read_symlink("/proc/self/fd/" + std::to_string(fd)).string();
    if (std::this_thread::get_id() == maker_ && on_flush) on_flush(path);
    keep(path);
    return {};
  }
  Result<void> sync_all(int fd) override {
    begin_sync();
    const std::lock_guard lock(mutex_);
    // A file that was renamed has its new name from here on.
    if (stdfs::read_symlink("/proc/self/fd/" + std::to_string(fd)) != real_) return {};
    const auto fresh = flushed_.find("/checkpoint.new");
    if (fresh == flushed_.end() || stdfs::exists(real_ + "/checkpoint.new")) return {};
    flushed_["/checkpoint"] = fresh->second;
    flushed_.erase(fresh);
    return {};
  }
  Result<void> sync_file_system(int) override {
    begin_sync();
    const std::lock_guard lock(mutex_);
    keep_all();
    return {};
  }
  /// What is on disk after a failure now, in `to`.
  void picture(const std::string& to, std::mt19937_64& random) const {
    const std::lock_guard lock(mutex_);
    stdfs::create_directories(to);
    for (const auto& [name, flushed] : flushed_) {
      const bool gone = !stdfs::exists(real_ + name);
      if (gone && random() % 2 == 0) continue;  // the removal reached the disk
      std::string bytes = flushed;
      if (!gone) mix_in(bytes, *read_file(real_ + name), random);
      write_sparse(to + name, bytes);
    }
    // Files that were never flushed may be there as well, and a rename may have been written early.
    for (const auto& file : stdfs::recursive_directory_iterator(real_)) {
      if (!file.is_regular_file()) continue;
      const std::string name = file.path().string().substr(real_.size());
      if (name == "/checkpoint" && flushed_.contains("/checkpoint.new") && random() % 2 == 0)
        write_sparse(to + name, flushed_.at("/checkpoint.new"));
      if (name.starts_with("/data/") && !flushed_.contains(name) && random() % 2 == 0)
        write_sparse(to + name, *read_file(real_ + name));
    }
  }
  /// Called before a flush by the thread that made this: the delta's own thread flushes too, when segments
  /// are full.
  std::function<void()> on_sync;
  /// Called with the path of each file whose data that thread flushes by itself.
  std::function<void(const std::string&)> on_flush;

 private:
  void begin_sync() const {
    if (std::this_thread::get_id() == maker_ && on_sync) on_sync();
  }
  void keep_all() {
    for (const auto& file : stdfs::recursive_directory_iterator(real_))
      if (file.is_regular_file()) keep(file.path().string());
  }
  void keep(const std::string& path) {
    if (path.starts_with(real_) && stdfs::exists(path))
      flushed_[path.substr(real_.size())] = *read_file(path);
  }
  /// Pages of zeros stay holes.
  static void write_sparse(const std::string& path, std::string_view bytes) {
    test::write_whole(path, {});
    ASSERT_EQ(truncate(path.c_str(), static_cast<off_t>(bytes.size())), 0);
    const auto file = open_file(path, O_WRONLY);
    ASSERT_TRUE(file);
    for (std::size_t at = 0; at < bytes.size(); at += 4096) {
      const std::string_view page = bytes.substr(at, 4096);
      if (page.find_first_not_of('\0') != std::string_view::npos) {
        ASSERT_TRUE(pwrite_full(file->get(), as_bytes(page), at));
      }
    }
  }
  /// Pages of `newer` that were written early.
  static void mix_in(std::string& bytes, const std::string& newer, std::mt19937_64& random) {
    const std::uint64_t early = random() % 4;  // of 3: never, sometimes... always
    const std::size_t size = random() % 2 == 0 ? std::max(bytes.size(), newer.size()) : bytes.size();
    bytes.resize(size, '\0');
    for (std::size_t at = 0; at < std::min(size, newer.size()); at += 4096)
      if (random() % 3 < early) {
        const std::size_t length = std::min<std::size_t>(4096, std::min(size, newer.size()) - at);
        bytes.replace(at, length, newer, at, length);
      }
  }
  const std::thread::id maker_ = std::this_thread::get_id();
  std::string real_;
  mutable std::mutex mutex_;
  std::map<std::string, std::string> flushed_;  // guarded by mutex_
};

}  // namespace layerfs::upper
