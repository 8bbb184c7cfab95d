// SPDX-License-Identifier: Apache-2.0
// FuseServer: one FUSE session that answers requests from a UnionFs. The adapter only: unpack, call, reply.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "fs/base/fd.h"
#include "fs/base/result.h"
#include "fs/union/union_fs.h"

namespace layerfs::fuse {

/// How ids of requests relate to ids of the tree. Identity, or id 0 shown as an ordinary user's own.
struct IdView {
  bool squash_root = false;  ///< tree 0 <-> `uid`/`gid` outside
  bool squash_all = false;   ///< every tree id is shown as `uid`/`gid` and 0 is stored: a single-id namespace
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
};

struct FuseOptions {
  std::string source = "layerfs";  ///< what /proc/self/mountinfo shows
  bool read_only = false;
  bool allow_other = false;
  bool suid = false;              ///< do not add nosuid
  bool dev = false;               ///< do not add nodev
  unsigned long mount_flags = 0;  ///< further flags of mount(2): MS_NOEXEC, MS_NOATIME, ...
  unsigned threads = 0;           ///< at most this many workers of a kind (worker_pool.h); 0: choose
  IdView ids;
  /// Added to the numbers of requests, so that those which an upper remembers of another connection are not
  /// taken for this one's: random and odd, the same for every server of a connection.
  std::uint64_t connection = 0;
  bool outlives_server = false;  ///< handover() is wanted
  /// Requests come over io_uring where the kernel and libfuse have it and the administrator allows it. Not
  /// together with outlives_server (ring.h, invariant 4).
  bool io_uring = false;
  /// Bytes that the server may keep in its own memory (memory_bound.h); 0: as many as there are.
  std::uint64_t most_memory = 0;
  bool debug = false;
  /// A procfs of the PID namespace that the mount was made in, in which callers are looked up. Null: /proc is one, where
  /// mount() mounted; else there is none.
  std::shared_ptr<const Fd> processes;
};

/// What the next server of a live mount needs: the connection, and the kernel's INIT message, which it sends
/// only once.
struct Handover {
  Fd device;
  std::string init;
};

class FuseServer {
 public:
  /// Mounts at `mountpoint`: by mount(2) as root (of this user namespace), else by fusermount3. Errors:
  /// EPERM, ENOENT, ENOTDIR, EBUSY..., with the path named; fusermount3's own message where it has one.
  static Result<std::unique_ptr<FuseServer>> mount(const std::string& mountpoint, const FuseOptions& options,
                                                   unionfs::UnionFs& fs);
  /// Serves a descriptor of /dev/fuse that is mounted already (by the container's init in its namespace).
  static Result<std::unique_ptr<FuseServer>> attach(Fd device, const FuseOptions& options,
                                                    unionfs::UnionFs& fs);
  /// Goes on where a server that died stopped, and has the kernel send again what that one had not answered
  /// (Linux 6.9; before, those requests have failed). Requires: `fs` was made with keep_orphans.
  static Result<std::unique_ptr<FuseServer>> take_over(Handover handover, const std::string& mountpoint,
                                                       const FuseOptions& options, unionfs::UnionFs& fs);
  virtual ~FuseServer() = default;

  /// For whoever keeps the mount alive. The device is empty where the mount can't outlive this server.
  /// Requires: FuseOptions::outlives_server.
  virtual Result<Handover> handover() const = 0;

  /// The connection, which has an error (poll(2)) once the file system is unmounted everywhere. Stays the
  /// server's.
  virtual int device() const = 0;

  /// Answers requests until the file system is unmounted or stop() is called. Errors: ENOMEM, EIO.
  virtual Result<void> serve() = 0;
  /// Makes serve() return. From any thread, not from a signal handler.
  virtual void stop() = 0;
  /// Unmounts, lazily where it is busy. Idempotent.
  virtual void unmount() = 0;
};

/// For `--version`: "libfuse 3.18.3 (static): killpriv_v2 passthrough io_uring ...".
std::string libfuse_description();

/// Options of mount(2) for a new FUSE mount on `device`: "fd=..,rootmode=40000,user_id=..,..."; for whoever
/// mounts without libfuse.
std::string mount_data(int device, const FuseOptions& options);

}  // namespace layerfs::fuse
