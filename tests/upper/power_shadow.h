// SPDX-License-Identifier: Apache-2.0
// Shadow: what a power failure leaves of a delta. The flushing calls are recorded: it has each file as it was
// when that was last flushed, and each directory as it was when that was. The disk after a failure is that,
// with any newer pages of the files and any newer entries of the directories, because the kernel may have
// written them early.
//
// (1) The bytes of a file are safe after fdatasync(2) or fsync(2) of it, its names (creation, rename,
//     removal) after fsync(2) of the directory alone, everything after syncfs(2). File systems promise more,
//     as ext4 does of a file's own name when the file is flushed; the delta relies on none of it.
// (2) A rename is atomic: after it the name is that of the old file or of the new one.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>

#include "fs/base/bytes.h"
#include "fs/base/sys_file.h"
#include "fs/upper/delta_open.h"
#include "tests/upper/delta_model.h"

namespace layerfs::upper {

namespace stdfs = std::filesystem;

class Shadow final : public SyncOps {
 public:
  /// What is in `real` already, if it is there, counts as flushed.
  explicit Shadow(std::string real) : real_(std::move(real)) {
    if (!stdfs::exists(real_)) return;
    has_own_entry_ = true;
    keep_all();
  }

  Result<void> sync_data(int fd) override {
    begin_sync();
    const std::string path = path_of(fd);
    if (std::this_thread::get_id() == maker_ && before_flush) before_flush(path);
    const std::lock_guard lock(mutex_);
    if (std::this_thread::get_id() == maker_ && on_flush) on_flush(path);
    if (is_watching_ && path.starts_with(real_ + "/")) keep_bytes(fd);
    return {};
  }
  Result<void> sync_all(int fd) override {
    begin_sync();
    const std::lock_guard lock(mutex_);
    const std::string path = path_of(fd);
    if (!is_watching_) return {};
    if (path == stdfs::path(real_).parent_path()) has_own_entry_ = true;
    if (path == real_ || path.starts_with(real_ + "/")) keep_entries(path.substr(real_.size()));
    return {};
  }
  Result<void> sync_file_system(int) override {
    begin_sync();
    const std::lock_guard lock(mutex_);
    if (!is_watching_) return {};
    has_own_entry_ = true;
    keep_all();
    return {};
  }
  /// What is on disk after a failure now, in `to`. Nothing is there where the delta's own name may be lost.
  void picture(const std::string& to, std::mt19937_64& random) const {
    const std::lock_guard lock(mutex_);
    if (!has_own_entry_ && random() % 2 == 0) return;
    picture_directory("", to, random);
  }
  /// The process dies, and another is to begin with what the page cache has: a copy of the delta in `next`.
  /// What the first still does, in its destructor or in a flush that it died in, is not seen any more; what
  /// the next does, after watch(). Requires: no file is being changed.
  void move_to(const std::string& next) {
    const std::lock_guard lock(mutex_);
    is_watching_ = false;
    copy_at_one_moment(real_, next);
    std::map<ino_t, std::shared_ptr<File>> files;
    const auto take_along = [&](const std::string& name) {
      const auto known = files_.find(inode_of(real_ + name));
      if (known == files_.end()) return;
      known->second->held = Fd(::open((next + name).c_str(), O_PATH | O_CLOEXEC | O_NOFOLLOW));
      files[inode_of(next + name)] = known->second;
    };
    take_along("");
    for (const auto& entry : stdfs::recursive_directory_iterator(real_))
      take_along(entry.path().string().substr(real_.size()));
    files_ = std::move(files);
    real_ = next;
  }
  void watch() {
    const std::lock_guard lock(mutex_);
    is_watching_ = true;
  }
  /// Called before a flush by the thread that made this: the delta's own thread flushes too, when segments
  /// are full.
  std::function<void()> on_sync;
  /// Called with the path of each file whose data that thread flushes by itself.
  std::function<void(const std::string&)> on_flush;
  /// The same, before the flush is done.
  std::function<void(const std::string&)> before_flush;

 private:
  /// A file or directory, whatever its names are.
  struct File {
    bool is_directory = false;
    Fd held;  ///< so that its number is nobody else's
    std::string flushed;
    std::map<std::string, std::shared_ptr<File>> entries;  ///< of a directory, as they were flushed
  };

  void begin_sync() const {
    if (std::this_thread::get_id() == maker_ && on_sync) on_sync();
  }
  static std::string path_of(int fd) {
    return stdfs::read_symlink("/proc/self/fd/" + std::to_string(fd)).string();
  }
  static ino_t inode_of(const std::string& path) {
    struct stat st{};
    return lstat(path.c_str(), &st) == 0 ? st.st_ino : 0;
  }
  std::shared_ptr<File> file_at(const std::string& path) {
    auto& file = files_[inode_of(path)];
    if (!file) {
      file = std::make_shared<File>();
      file->is_directory = stdfs::is_directory(path);
      file->held = Fd(::open(path.c_str(), O_PATH | O_CLOEXEC | O_NOFOLLOW));
    }
    return file;
  }
  /// The delta's own thread makes the log longer when it likes: a copy of what grew meanwhile is none of any
  /// moment.
  static void copy_at_one_moment(const std::string& from, const std::string& to) {
    const auto sizes = [](const std::string& top) {
      std::map<std::string, std::uintmax_t> found;
      for (const auto& entry : stdfs::recursive_directory_iterator(top))
        if (entry.is_regular_file()) found[stdfs::relative(entry.path(), top).string()] = entry.file_size();
      return found;
    };
    do {
      stdfs::remove_all(to);
      stdfs::copy(from, to, stdfs::copy_options::recursive);
    } while (sizes(from) != sizes(to));
  }
  static std::string bytes_of(const std::string& path) {
    auto bytes = read_file(path, std::size_t{1} << 30);
    return bytes ? *bytes : std::string();
  }
  void keep_bytes(int fd) {
    const std::string proc = "/proc/self/fd/" + std::to_string(fd);
    struct stat st{};
    ASSERT_EQ(fstat(fd, &st), 0);
    auto& file = files_[st.st_ino];
    if (!file) {
      file = std::make_shared<File>();
      file->held = Fd(::open(proc.c_str(), O_PATH | O_CLOEXEC));
    }
    file->flushed = bytes_of(proc);
  }
  void keep_entries(const std::string& name) {
    const auto directory = file_at(real_ + name);
    directory->entries.clear();
    for (const auto& entry : stdfs::directory_iterator(real_ + name))
      directory->entries[entry.path().filename().string()] = file_at(entry.path().string());
  }
  void keep_all() {
    keep_entries("");
    for (const auto& entry : stdfs::recursive_directory_iterator(real_)) {
      const std::string path = entry.path().string();
      if (entry.is_directory())
        keep_entries(path.substr(real_.size()));
      else if (entry.is_regular_file())
        file_at(path)->flushed = bytes_of(path);
    }
  }

  void picture_directory(const std::string& name, const std::string& to, std::mt19937_64& random) const {
    stdfs::create_directories(to + name);
    std::map<std::string, std::shared_ptr<File>> flushed;
    if (const auto known = files_.find(inode_of(real_ + name)); known != files_.end())
      flushed = known->second->entries;
    std::set<std::string> names;
    for (const auto& [entry, file] : flushed) names.insert(entry);
    if (stdfs::is_directory(real_ + name))
      for (const auto& entry : stdfs::directory_iterator(real_ + name))
        names.insert(entry.path().filename().string());
    for (const std::string& entry : names) {
      const std::string path = name + "/" + entry;
      const auto before = flushed.find(entry);
      const ino_t now = inode_of(real_ + path);
      const auto known = files_.find(now);
      const std::shared_ptr<File> file = known == files_.end() ? nullptr : known->second;
      const bool is_same = before != flushed.end() && now != 0 && before->second == file;
      // The removal, the new name or the new file behind it may have reached the disk or not.
      const bool is_early = is_same || random() % 2 == 0;
      if (is_early) {
        if (now == 0) continue;
        if (stdfs::is_directory(real_ + path))
          picture_directory(path, to, random);
        else
          write_mixed(to + path, file ? file->flushed : std::string(), bytes_of(real_ + path), random);
      } else if (before != flushed.end() && !before->second->is_directory) {
        // The file that had the name, as far as it was flushed: nobody knows what else became of it.
        write_sparse(to + path, before->second->flushed);
      }
    }
  }
  static void write_mixed(const std::string& path, std::string bytes, const std::string& newer,
                          std::mt19937_64& random) {
    mix_in(bytes, newer, random);
    write_sparse(path, bytes);
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
  mutable std::mutex mutex_;  // guards all below
  std::string real_;
  std::map<ino_t, std::shared_ptr<File>> files_;  // by the number of what is there
  bool has_own_entry_ = false;
  bool is_watching_ = true;
};

}  // namespace layerfs::upper
