// SPDX-License-Identifier: Apache-2.0
// The composition root of the file system: store + tree + upper + union + FUSE server, from a MountRequest.
//
// (1) A server process opens everything itself, after the fork (store.h, invariant 3).
// (2) A mount outlives its server: KEEPER.md.
// (3) The upper's lock is held from open to the end of the server: `umount` waits for it, so that what was
//     written is durable when it returns.
// (4) A live mount answers on the control socket <upper_dir>/control (control.h).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "fs/base/fd.h"
#include "fs/base/result.h"
#include "fs/mount/mount_request.h"

namespace layerfs::mount {

enum class OpenFor : std::uint8_t {
  kStart,
  kTakeover,  ///< of a live mount; UnionFs::inherit_lookups() follows
};

/// Everything of a mount but the session: opened store, tree, upper and union.
class MountedStack {
 public:
  /// `device`: the connection of the mount that is taken over.
  static Result<std::unique_ptr<MountedStack>> open(const MountRequest& request,
                                                    OpenFor what = OpenFor::kStart, int device = -1);
  virtual ~MountedStack() = default;
  virtual unionfs::UnionFs& fs() = 0;
  /// Starts the control socket's thread.
  virtual Result<void> start_control() = 0;
  /// Once the mount is there. Errors: those of duplicating the descriptor.
  virtual Result<void> watch_connection(int device) = 0;
};

/// A number for FuseOptions::connection.
std::uint64_t new_connection();

/// Checks that something can be mounted at `path`; to be called before an upper is made for the mount. Errors:
/// ENOENT, ENOTDIR...; kInvalid where the mount would hide its own store from its server.
Result<void> check_mountpoint(const std::string& path, const std::string& store_root);

/// Starts a server in the background on `mountpoint` and returns when the mount answers. Any failure, also in
/// the background process, is this call's error. Requires: single-threaded caller without an open Store.
Result<void> mount_in_background(const MountRequest& request, const std::string& mountpoint);

/// The same in this process: returns when the file system is unmounted, by `umount` or SIGTERM. Requires: a
/// single-threaded caller without an open Store.
Result<void> mount_in_foreground(const MountRequest& request, const std::string& mountpoint);

/// How serving a mount to its end ended: the error of writing out what was changed last, if there was one.
/// Everything else of the mount went well, and the mount is gone.
struct Served {
  std::optional<Error> unwritten;
};

/// Serves an already mounted /dev/fuse descriptor in this process until the mount is gone, then syncs and
/// closes the upper; with an INIT message, it takes over from a server that died. `link` (may be empty) is
/// told once requests are answered (keeper_link.h).
Result<Served> serve_device(const MountRequest& request, fuse::Handover handover, Fd link);

/// Unmounts and waits until the server has closed the upper, if it is one of the store at `store_root`. Where
/// another mount namespace holds the mount, its server goes on; then it warns and returns.
/// Errors: EINVAL (not a layerfs mount), EBUSY, EPERM.
Result<void> unmount(const std::string& mountpoint, const std::string& store_root);

/// The path under which /proc/self/mountinfo knows a mount at `path`. Never asks the mount itself, unless
/// `path` ends in "." or "..".
Result<std::string> mount_path(const std::string& path);

}  // namespace layerfs::mount
