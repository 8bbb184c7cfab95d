// SPDX-License-Identifier: Apache-2.0
// Files of our own: of a store, of an upper, of a container's state. The directory that they lie in may
// belong to somebody else than the process (root working on a user's store), or may have been damaged or
// prepared, so that what lies at one of our names need not be what we put there. Any thread.
//
// (1) No component of a path is followed where it is a symbolic link, the last one neither: ELOOP. A path
//     never leads up or out of `dir_fd`: an absolute one and "..": EXDEV.
// (2) What is opened is a directory (O_DIRECTORY) or a regular file; everything else is refused, and nothing
//     waits for it: no fifo for its other end, no terminal, no device.
// (3) Nothing is truncated, appended to or read before (1) and (2) were checked.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/fd.h"
#include "fs/base/result.h"

namespace layerfs {

/// openat2(2) with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS; where the call is absent, one component after
/// another. `flags` and `mode` as for open(2); O_PATH is taken too, and then any kind of file but a link.
/// Errors: ENOENT...; ELOOP (a link), EXDEV (1); kCorrupt where it is no regular file (ENOTDIR with
/// O_DIRECTORY).
Result<Fd> open_own_at(int dir_fd, const std::string& path, int flags, mode_t mode = 0);
/// The whole of such a file. Errors: kInvalid where it is longer than `limit`.
Result<std::string> read_own_at(int dir_fd, const std::string& path,
                                std::size_t limit = std::size_t{64} << 20);

/// A directory of ours with all below it. Paths are relative to it, by the invariants above; errors name the
/// whole path.
class OwnDirectory {
 public:
  OwnDirectory() = default;
  /// `shown`: how errors call it.
  OwnDirectory(Fd directory, std::string shown)
      : directory_(std::move(directory)), shown_(std::move(shown)) {}

  int fd() const { return directory_.get(); }
  const std::string& shown() const { return shown_; }

  Result<Fd> open(const std::string& path, int flags, mode_t mode = 0) const;
  Result<std::string> read(const std::string& path, std::size_t limit) const;
  /// Of what is there, a link included; nullopt where nothing is.
  Result<std::optional<struct stat>> find_stat(const std::string& path) const;
  /// A directory that is there is success; anything else there is ENOTDIR.
  Result<void> make_dir(const std::string& path, mode_t mode) const;
  Result<void> rename(const std::string& from, const std::string& to, unsigned flags = 0) const;
  /// A file or a link, never what the link leads to. Errors: ENOENT...
  Result<void> unlink(const std::string& path) const;
  /// With all below it, as remove_tree() does (sys_file.h).
  Result<void> remove(const std::string& path) const;
  Result<std::vector<std::string>> list(const std::string& path) const;
  /// fsync(2) of a directory or a file.
  Result<void> sync(const std::string& path) const;

 private:
  struct ParentAndName {
    Fd parent;  ///< the directory that the last component lies in
    std::string name;
  };
  Result<ParentAndName> open_parent(const std::string& path) const;
  std::unexpected<Error> named(Error error, std::string_view operation, const std::string& path) const;

  Fd directory_;
  std::string shown_;
};

}  // namespace layerfs
