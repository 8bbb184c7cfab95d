// SPDX-License-Identifier: Apache-2.0
// File system calls as Results: whole reads and writes, EINTR retried, O_CLOEXEC always. Any thread.
// Functions ending in _at take a directory descriptor; `path` is relative to it.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/fd.h"
#include "fs/base/result.h"

namespace layerfs {

/// open(2) relative to the working directory / to `dir_fd`. Errors: those of open(2), with the path named.
Result<Fd> open_file(const std::string& path, int flags, mode_t mode = 0);
Result<Fd> open_at(int dir_fd, const std::string& path, int flags, mode_t mode = 0);
/// openat2(2) with RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS below `root_fd`; where the call is absent, a
/// component-wise walk that follows symbolic links inside the root only.
Result<Fd> open_in_root(int root_fd, const std::string& path, int flags, mode_t mode = 0);
/// An unnamed file in `dir` (O_TMPFILE).
Result<Fd> open_unnamed(const std::string& dir, mode_t mode);

/// Reads exactly `buffer.size()` bytes, or fewer at the end of the file; returns the count.
Result<std::size_t> read_full(int fd, std::span<std::byte> buffer);
Result<std::size_t> pread_full(int fd, std::span<std::byte> buffer, std::uint64_t offset);
/// Writes all of `data`. Errors: ENOSPC, EDQUOT, EIO... after a partial write.
Result<void> write_full(int fd, std::span<const std::byte> data);
Result<void> pwrite_full(int fd, std::span<const std::byte> data, std::uint64_t offset);
/// From where the descriptor stands to the end. Errors: kInvalid where that is more than `limit`.
Result<std::string> read_all(int fd, std::size_t limit);
/// Writes as much of `data`, which is not empty, as goes (write(2)): the count is never 0. Errors: where not
/// a byte could be written.
Result<std::size_t> pwrite_most(int fd, std::span<const std::byte> data, std::uint64_t offset);
/// The whole file. Errors: kInvalid where it is longer than `limit`.
Result<std::string> read_file(const std::string& path, std::size_t limit = std::size_t{64} << 20);
Result<std::string> read_file_at(int dir_fd, const std::string& path,
                                 std::size_t limit = std::size_t{64} << 20);
/// Writes a temporary beside `path`, fsyncs it, renames it over `path` and fsyncs the directory: a crash
/// leaves the old file or the new one.
Result<void> write_file_atomic(const std::string& path, std::string_view data, mode_t mode);

Result<struct stat> stat_fd(int fd);
/// fstatat(2); nullopt where nothing is there (ENOENT, ENOTDIR).
Result<std::optional<struct stat>> find_stat_at(int dir_fd, const std::string& path, int flags);
Result<void> make_dir(const std::string& path, mode_t mode);   ///< an existing directory is success
Result<void> make_dirs(const std::string& path, mode_t mode);  ///< with missing parents
/// chmod(2): `mode` whatever the caller's umask was when `path` was made.
Result<void> set_mode(const std::string& path, mode_t mode);
/// A directory of ours at a place that others can guess and so make first (below /tmp). False where nothing
/// is there. Errors: kInvalid where lstat(2) does not say that it is a directory, the caller's own, and not
/// to be written by others.
Result<bool> find_own_dir(const std::string& path);
Result<void> rename_file(const std::string& from, const std::string& to);
Result<void> rename_at(int from_dir, const std::string& from, int to_dir, const std::string& to,
                       unsigned flags);
Result<void> unlink_at(int dir_fd, const std::string& path, int flags);
/// Removes `path` and all below it, never through a symbolic link or a mount. Nothing there is success.
/// Errors: EBUSY where a mount is in the way (what was found before it is gone); kInvalid for a path that
/// ends in ".", ".." or the root.
Result<void> remove_tree(const std::string& path);
/// The same of the entry `name` of a directory; `shown` is what errors call it.
Result<void> remove_tree_at(int dir_fd, const std::string& name, const std::string& shown);
/// Names in a directory without "." and "..", unsorted.
Result<std::vector<std::string>> list_dir(const std::string& path);
Result<std::vector<std::string>> list_dir_at(int dir_fd);

Result<void> sync_fd(int fd);    ///< fsync(2)
Result<void> sync_data(int fd);  ///< fdatasync(2)
Result<void> sync_dir(const std::string& path);

/// flock(2) exclusive or shared; false where another holder is in the way and `wait` is kNo.
enum class LockMode : std::uint8_t { kShared, kExclusive };
enum class LockWait : std::uint8_t { kNo, kYes };
Result<bool> lock_file(int fd, LockMode mode, LockWait wait);

/// Extended attributes of an open file (fgetxattr(2)); O_PATH descriptors are taken too.
Result<std::optional<std::string>> find_xattr_fd(int fd, const std::string& name);
Result<std::vector<std::string>> list_xattrs_fd(int fd);
Result<void> set_xattr_fd(int fd, const std::string& name, std::string_view value);

/// "a/b" of "a" and "b"; no normalisation.
std::string join_path(std::string_view directory, std::string_view name);
/// realpath(3): absolute and without links. Errors: ENOENT, EACCES, ELOOP... with the path named.
Result<std::string> real_path(const std::string& path);
/// `path` itself where it is absolute, else below the working directory; nothing need be there.
Result<std::string> absolute_path(const std::string& path);

/// [offset, offset+length) of a file becomes zeros, as a hole where the file system can (fallocate(2)); its
/// length stays. Errors: those of fallocate(2) and pwrite(2).
Result<void> zero_range(int fd, std::uint64_t offset, std::uint64_t length);

}  // namespace layerfs
