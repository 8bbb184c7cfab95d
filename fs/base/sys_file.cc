// SPDX-License-Identifier: Apache-2.0
#include "fs/base/sys_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>

#include "fs/base/scope_exit.h"

namespace layerfs {

namespace {

/// Calls `call` again while it is interrupted.
template <class F>
auto retry(F call) {
  for (;;) {
    auto result = call();
    if (result >= 0 || errno != EINTR) return result;
  }
}

std::string proc_fd(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

std::string parent_of(const std::string& path) {
  auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

struct DirCloser {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

Result<std::vector<std::string>> read_names(Fd fd) {
  std::unique_ptr<DIR, DirCloser> dir(::fdopendir(fd.get()));
  if (!dir) return system_error(errno, "read directory");
  fd.release();
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(dir.get());
    if (entry == nullptr) {
      if (errno != 0) return system_error(errno, "read directory");
      return names;
    }
    std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
}

}  // namespace

Result<Fd> open_file(const std::string& path, int flags, mode_t mode) {
  return open_at(AT_FDCWD, path, flags, mode);
}

Result<Fd> open_at(int dir_fd, const std::string& path, int flags, mode_t mode) {
  int fd = retry([&] { return ::openat(dir_fd, path.c_str(), flags | O_CLOEXEC, mode); });
  if (fd < 0) return system_error(errno, "open", path);
  return Fd(fd);
}

Result<Fd> open_unnamed(const std::string& dir, mode_t mode) {
  int fd = retry([&] { return ::open(dir.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, mode); });
  if (fd < 0) return system_error(errno, "open unnamed file in", dir);
  return Fd(fd);
}

Result<std::size_t> read_full(int fd, std::span<std::byte> buffer) {
  std::size_t done = 0;
  while (done < buffer.size()) {
    ssize_t got = retry([&] { return ::read(fd, buffer.data() + done, buffer.size() - done); });
    if (got < 0) return system_error(errno, "read");
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

Result<std::size_t> pread_full(int fd, std::span<std::byte> buffer, std::uint64_t offset) {
  std::size_t done = 0;
  while (done < buffer.size()) {
    ssize_t got = retry([&] {
      return ::pread(fd, buffer.data() + done, buffer.size() - done, static_cast<off_t>(offset + done));
    });
    if (got < 0) return errno_error(errno);
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

Result<void> write_full(int fd, std::span<const std::byte> data) {
  while (!data.empty()) {
    ssize_t put = retry([&] { return ::write(fd, data.data(), data.size()); });
    if (put < 0) return system_error(errno, "write");
    data = data.subspan(static_cast<std::size_t>(put));
  }
  return {};
}

Result<void> pwrite_full(int fd, std::span<const std::byte> data, std::uint64_t offset) {
  while (!data.empty()) {
    ssize_t put = retry([&] { return ::pwrite(fd, data.data(), data.size(), static_cast<off_t>(offset)); });
    if (put < 0) return errno_error(errno);
    data = data.subspan(static_cast<std::size_t>(put));
    offset += static_cast<std::uint64_t>(put);
  }
  return {};
}

Result<std::string> read_all(int fd, std::size_t limit) {
  std::string text;
  // Grown at once where it is long, which copies; files of /proc say that they are empty.
  struct stat st;
  if (::fstat(fd, &st) == 0 && st.st_size > 65536)
    text.reserve(std::min(static_cast<std::size_t>(st.st_size), limit));
  // Not zeroed: a page of it that nothing is read into is never touched, and a fault costs more than the
  // read of a small file.
  char buffer[65536];
  for (;;) {
    ssize_t got = retry([&] { return ::read(fd, buffer, sizeof buffer); });
    if (got < 0) return errno_error(errno);
    if (got == 0) return text;
    if (static_cast<std::size_t>(got) > limit - text.size())
      return std::unexpected(
          Error{ErrorKind::kInvalid, EINVAL, {}, "longer than " + std::to_string(limit) + " bytes"});
    text.append(buffer, static_cast<std::size_t>(got));
  }
}

Result<std::size_t> pwrite_most(int fd, std::span<const std::byte> data, std::uint64_t offset) {
  std::size_t done = 0;
  while (done < data.size()) {
    ssize_t put = retry([&] {
      return ::pwrite(fd, data.data() + done, data.size() - done, static_cast<off_t>(offset + done));
    });
    int code = put == 0 ? EIO : errno;
    if (put <= 0 && done > 0) break;
    if (put <= 0) return system_error(code, "write");
    done += static_cast<std::size_t>(put);
  }
  return done;
}

Result<std::string> read_file(const std::string& path, std::size_t limit) {
  return read_file_at(AT_FDCWD, path, limit);
}

Result<std::string> read_file_at(int dir_fd, const std::string& path, std::size_t limit) {
  LAYERFS_ASSIGN(Fd fd, open_at(dir_fd, path, O_RDONLY));
  auto text = read_all(fd.get(), limit);
  if (!text) return with_context(std::move(text).error(), "read", path);
  return text;
}

Result<void> write_file_atomic(const std::string& path, std::string_view data, mode_t mode) {
  std::string temporary = path + ".XXXXXX";
  int raw = ::mkostemp(temporary.data(), O_CLOEXEC);
  if (raw < 0) return system_error(errno, "create temporary for", path);
  Fd fd(raw);
  ScopeExit remove_temporary([&] { ::unlink(temporary.c_str()); });
  if (::fchmod(raw, mode) != 0) return system_error(errno, "chmod", temporary);
  if (auto written = write_full(raw, std::as_bytes(std::span(data))); !written)
    return with_context(written.error(), "write", path);
  LAYERFS_TRY(sync_fd(raw));
  LAYERFS_TRY(rename_file(temporary, path));
  remove_temporary.release();
  return sync_dir(parent_of(path));
}

Result<struct stat> stat_fd(int fd) {
  struct stat st;
  if (::fstat(fd, &st) != 0) return system_error(errno, "stat");
  return st;
}

Result<std::optional<struct stat>> find_stat_at(int dir_fd, const std::string& path, int flags) {
  struct stat st;
  if (::fstatat(dir_fd, path.c_str(), &st, flags) == 0) return st;
  if (errno == ENOENT || errno == ENOTDIR) return std::nullopt;
  return system_error(errno, "stat", path);
}

Result<void> make_dir(const std::string& path, mode_t mode) {
  if (::mkdir(path.c_str(), mode) == 0) return {};
  if (errno == EEXIST) {
    struct stat st;
    if (::stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode)) return {};
    return system_error(ENOTDIR, "create directory", path);
  }
  return system_error(errno, "create directory", path);
}

Result<void> make_dirs(const std::string& path, mode_t mode) {
  auto made = make_dir(path, mode);
  if (made || made.error().code != ENOENT) return made;
  std::string parent = parent_of(path);
  if (parent == path || parent == "." || parent == "/") return made;
  LAYERFS_TRY(make_dirs(parent, mode));
  return make_dir(path, mode);
}

Result<void> set_mode(const std::string& path, mode_t mode) {
  if (::chmod(path.c_str(), mode) != 0) return system_error(errno, "chmod", path);
  return {};
}

Result<bool> find_own_dir(const std::string& path) {
  LAYERFS_ASSIGN(auto found, find_stat_at(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW));
  if (!found) return false;
  auto refused = [&](std::string_view why) { return invalid_error("use directory", path, why); };
  if (!S_ISDIR(found->st_mode)) return refused("it is no directory");
  if (found->st_uid != ::geteuid())
    return refused("it belongs to user " + std::to_string(found->st_uid) + ", not to the caller");
  if ((found->st_mode & (S_IWGRP | S_IWOTH)) != 0) return refused("others may write to it");
  return true;
}

Result<void> rename_file(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) return system_error(errno, "rename to", to);
  return {};
}

Result<void> rename_at(int from_dir, const std::string& from, int to_dir, const std::string& to,
                       unsigned flags) {
  if (::renameat2(from_dir, from.c_str(), to_dir, to.c_str(), flags) != 0)
    return system_error(errno, "rename to", to);
  return {};
}

Result<void> unlink_at(int dir_fd, const std::string& path, int flags) {
  if (::unlinkat(dir_fd, path.c_str(), flags) != 0) return system_error(errno, "remove", path);
  return {};
}

Result<std::vector<std::string>> list_dir(const std::string& path) {
  LAYERFS_ASSIGN(Fd fd, open_file(path, O_RDONLY | O_DIRECTORY));
  return read_names(std::move(fd));
}

Result<std::vector<std::string>> list_dir_at(int dir_fd) {
  LAYERFS_ASSIGN(Fd fd, open_at(dir_fd, ".", O_RDONLY | O_DIRECTORY));
  return read_names(std::move(fd));
}

Result<void> sync_fd(int fd) {
  if (::fsync(fd) != 0) return system_error(errno, "fsync");
  return {};
}

Result<void> sync_data(int fd) {
  if (::fdatasync(fd) != 0) return system_error(errno, "fdatasync");
  return {};
}

Result<void> sync_dir(const std::string& path) {
  LAYERFS_ASSIGN(Fd fd, open_file(path, O_RDONLY | O_DIRECTORY));
  if (::fsync(fd.get()) != 0) return system_error(errno, "fsync", path);
  return {};
}

Result<bool> lock_file(int fd, LockMode mode, LockWait wait) {
  int operation = (mode == LockMode::kShared ? LOCK_SH : LOCK_EX) | (wait == LockWait::kNo ? LOCK_NB : 0);
  if (retry([&] { return ::flock(fd, operation); }) == 0) return true;
  if (errno == EWOULDBLOCK) return false;
  return system_error(errno, "lock");
}

Result<std::optional<std::string>> find_xattr_fd(int fd, const std::string& name) {
  std::string path = proc_fd(fd);
  for (;;) {
    ssize_t size = ::getxattr(path.c_str(), name.c_str(), nullptr, 0);
    if (size < 0 && (errno == ENODATA || errno == EOPNOTSUPP)) return std::nullopt;
    if (size < 0) return system_error(errno, "get xattr", name);
    std::string value(static_cast<std::size_t>(size), '\0');
    size = ::getxattr(path.c_str(), name.c_str(), value.data(), value.size());
    if (size < 0 && errno == ERANGE) continue;  // it grew between the two calls
    if (size < 0) return system_error(errno, "get xattr", name);
    value.resize(static_cast<std::size_t>(size));
    return value;
  }
}

Result<std::vector<std::string>> list_xattrs_fd(int fd) {
  std::string path = proc_fd(fd);
  for (;;) {
    ssize_t size = ::listxattr(path.c_str(), nullptr, 0);
    if (size < 0 && errno == EOPNOTSUPP) return std::vector<std::string>{};
    if (size < 0) return system_error(errno, "list xattrs");
    std::string names(static_cast<std::size_t>(size), '\0');
    size = ::listxattr(path.c_str(), names.data(), names.size());
    if (size < 0 && errno == ERANGE) continue;
    if (size < 0) return system_error(errno, "list xattrs");
    std::vector<std::string> list;
    for (std::size_t at = 0; at < static_cast<std::size_t>(size);) {
      list.emplace_back(names.c_str() + at);
      at += list.back().size() + 1;
    }
    return list;
  }
}

Result<void> set_xattr_fd(int fd, const std::string& name, std::string_view value) {
  if (::setxattr(proc_fd(fd).c_str(), name.c_str(), value.data(), value.size(), 0) != 0)
    return system_error(errno, "set xattr", name);
  return {};
}

std::string join_path(std::string_view directory, std::string_view name) {
  std::string path(directory);
  if (!path.empty() && path.back() != '/') path += '/';
  path += name;
  return path;
}

Result<std::string> real_path(const std::string& path) {
  std::unique_ptr<char, decltype(&std::free)> resolved(::realpath(path.c_str(), nullptr), &std::free);
  if (!resolved) return system_error(errno, "resolve", path);
  return std::string(resolved.get());
}

Result<std::string> absolute_path(const std::string& path) {
  if (path.starts_with('/')) return path;
  LAYERFS_ASSIGN(std::string here, real_path("."));
  return join_path(here, path);
}

Result<void> zero_range(int fd, std::uint64_t offset, std::uint64_t length) {
  if (::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                  static_cast<off_t>(length)) == 0)
    return {};
  int code = errno;
  if (code != EOPNOTSUPP) return system_error(code, "punch hole");
  LAYERFS_ASSIGN(struct stat attributes, stat_fd(fd));
  std::uint64_t end =
      std::min<std::uint64_t>(offset + length, static_cast<std::uint64_t>(attributes.st_size));
  static constexpr std::byte kZeros[64 * 1024] = {};
  while (offset < end) {
    std::uint64_t count = std::min<std::uint64_t>(sizeof kZeros, end - offset);
    LAYERFS_TRY(pwrite_full(fd, std::span(kZeros).first(count), offset));
    offset += count;
  }
  return {};
}

}  // namespace layerfs
