// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/capabilities.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdint>
#include <string_view>
#include <utility>

#include "fs/base/log.h"
#include "fs/fuse/ring.h"

namespace layerfs::fuse {
namespace {

// Capabilities that the oldest libfuse does not name; with it they do not exist (0).
#ifdef FUSE_CAP_HANDLE_KILLPRIV_V2
constexpr std::uint64_t kHandleKillprivV2 = FUSE_CAP_HANDLE_KILLPRIV_V2;
#else
constexpr std::uint64_t kHandleKillprivV2 = 0;
#endif
#ifdef FUSE_CAP_SETXATTR_EXT
constexpr std::uint64_t kSetxattrExt = FUSE_CAP_SETXATTR_EXT;
#else
constexpr std::uint64_t kSetxattrExt = 0;
#endif
#ifdef FUSE_CAP_PASSTHROUGH
constexpr bool kHasPassthrough = true;
#else
constexpr bool kHasPassthrough = false;
#endif
#ifdef FUSE_CAP_OVER_IO_URING
constexpr std::uint64_t kOverIoUring = FUSE_CAP_OVER_IO_URING;
#else
constexpr std::uint64_t kOverIoUring = 0;
#endif

template <class Connection>
std::uint64_t capable(const Connection& connection) {
  if constexpr (requires { connection.capable_ext; })
    return connection.capable_ext;
  else
    return connection.capable;
}

template <class Connection>
void want(Connection& connection, std::uint64_t flag) {
  if ((capable(connection) & flag) == 0) return;
  if constexpr (requires { connection.want_ext; })
    fuse_set_feature_flag(&connection, flag);
  else
    connection.want |= static_cast<unsigned>(flag);
}

template <class Connection>
void do_not_want(Connection& connection, std::uint64_t flag) {
  if constexpr (requires { connection.want_ext; })
    fuse_unset_feature_flag(&connection, flag);
  else
    connection.want &= ~static_cast<unsigned>(flag);
}

/// INTERRUPT is of no use to operations that never wait for anything but the disk.
template <class Connection>
void refuse_interrupts(Connection& connection) {
  if constexpr (requires { connection.no_interrupt; }) connection.no_interrupt = 1;
}

}  // namespace

void choose_features(fuse_conn_info& connection) {
  for (std::uint64_t flag : {
           std::uint64_t{FUSE_CAP_ASYNC_READ}, std::uint64_t{FUSE_CAP_PARALLEL_DIROPS},
           std::uint64_t{FUSE_CAP_READDIRPLUS}, std::uint64_t{FUSE_CAP_CACHE_SYMLINKS},
           std::uint64_t{FUSE_CAP_EXPORT_SUPPORT},  // the core answers "." and ".."
           std::uint64_t{FUSE_CAP_POSIX_ACL},       // the kernel enforces them, and caches what it asked for
           std::uint64_t{FUSE_CAP_DONT_MASK},  // the core applies the umask, unless there is a default ACL
           // All changes come through this kernel, so its pages never go stale by themselves.
           std::uint64_t{FUSE_CAP_EXPLICIT_INVAL_DATA},
           kHandleKillprivV2,  // no GETXATTR security.capability before a write
           kSetxattrExt,       // says when an ACL takes the setgid bit away
       })
    want(connection, flag);
  for (std::uint64_t flag : {
           std::uint64_t{FUSE_CAP_READDIRPLUS_AUTO},  // always plus: a cold walk is a message a directory
           // With it the kernel lets a direct write of AIO or io_uring complete without dropping the pages
           // that were read meanwhile (kiocb_invalidate_post_direct_write() is for synchronous ones), and
           // they go on being read with the old bytes. libfuse asks for it by itself.
           std::uint64_t{FUSE_CAP_ASYNC_DIO},
           // Opens are never seen, so a truncation has to come as SETATTR.
           std::uint64_t{FUSE_CAP_ATOMIC_O_TRUNC},
           // It would drop a file's pages after each write, for its new mtime.
           std::uint64_t{FUSE_CAP_AUTO_INVAL_DATA},
           // Version 1 clears set-id bits at every write, whoever writes.
           std::uint64_t{FUSE_CAP_HANDLE_KILLPRIV},
           std::uint64_t{FUSE_CAP_WRITEBACK_CACHE},
           // Messages are read whole: most are far shorter than a pipe's set-up costs.
           std::uint64_t{FUSE_CAP_SPLICE_READ},
           std::uint64_t{FUSE_CAP_SPLICE_WRITE},
           std::uint64_t{FUSE_CAP_SPLICE_MOVE},
           // Locks stay in the kernel: there is no other client.
           std::uint64_t{FUSE_CAP_POSIX_LOCKS},
           std::uint64_t{FUSE_CAP_FLOCK_LOCKS},
       })
    do_not_want(connection, flag);
  connection.max_write = kMaxTransfer;
  connection.max_background = 64;
  connection.congestion_threshold = 48;
  connection.time_gran = 1;
  refuse_interrupts(connection);
}

void negotiate(Adapter& adapter, fuse_conn_info& connection) {
  choose_features(connection);
  adapter.extended_setxattr = kSetxattrExt != 0 && (capable(connection) & kSetxattrExt) != 0;
  adapter.handles_killpriv = kHandleKillprivV2 != 0 && (capable(connection) & kHandleKillprivV2) != 0;
  adapter.can_keep_open = (capable(connection) & FUSE_CAP_NO_OPEN_SUPPORT) != 0 &&
                          (capable(connection) & FUSE_CAP_NO_OPENDIR_SUPPORT) != 0;
  if (adapter.routes_replies && kOverIoUring != 0 && (capable(connection) & kOverIoUring) != 0) {
    auto rings = make_rings(fuse_session_fd(adapter.session), kMaxTransfer);
    if (rings)
      adapter.rings = std::move(*rings);
    else
      log_info("requests come through /dev/fuse: {}", rings.error().message());
  }
  adapter.initialised = true;
}

std::string libfuse_description() {
  // Where the function's code is tells how it was linked.
  Dl_info info{};
  bool shared = ::dladdr(reinterpret_cast<const void*>(&fuse_pkgversion), &info) != 0 &&
                info.dli_fname != nullptr &&
                std::string_view(info.dli_fname).find("libfuse3") != std::string_view::npos;
  std::string text =
      fmt::format("libfuse {} ({}), protocol features:", fuse_pkgversion(), shared ? "shared" : "static");
  struct Feature {
    const char* name;
    bool present;
  };
  for (const Feature& feature :
       {Feature{"killpriv_v2", kHandleKillprivV2 != 0}, Feature{"setxattr_ext", kSetxattrExt != 0},
        Feature{"passthrough", kHasPassthrough}, Feature{"io_uring", kOverIoUring != 0}})
    text += fmt::format(" {}{}", feature.present ? "+" : "-", feature.name);
  return text;
}

}  // namespace layerfs::fuse
