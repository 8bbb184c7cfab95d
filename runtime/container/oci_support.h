// SPDX-License-Identifier: Apache-2.0
// What the operations of OciRuntime share.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

#include "fs/base/fd.h"
#include "fs/base/result.h"
#include "runtime/container/init_process.h"
#include "runtime/container/state_store.h"

namespace layerfs::container {

/// The container's init, held so that its pid cannot become another's. Empty where it is gone.
Result<Fd> open_init(const ContainerState& state);
Result<Fd> connect_console_socket(const std::string& path);
/// Where the profile notifies: its listener's socket, and what is to be sent on it. `state.pid` is 0 for the
/// container's own init.
Result<void> connect_listener(const spec::Seccomp& seccomp, const ContainerState& state, Status status,
                              InitRequest& request);
/// The caller's descriptors from 3 on that are the program's: those of LISTEN_FDS, then `preserve_fds` more.
/// Errors: kInvalid (LISTEN_FDS, more than 65536). Requires: whatever of ours outlives the exec of the final
/// stage (sync channel, stage, fifo, sockets) is opened after it, so as to lie above them.
Result<void> keep_descriptors(unsigned preserve_fds, InitRequest& request);
/// Replaced by rename, as conmon reads it while it is written. Nothing where `path` is empty.
Result<void> write_pid_file(const std::string& path, pid_t pid);
/// Where the container shares the caller's mount namespace: what it mounted goes from the caller's.
Result<void> unmount_shared_root(const ContainerState& state);
/// A file of a directory that nobody else sees yet.
Result<void> write_file_plain(const std::string& path, std::string_view text);

}  // namespace layerfs::container
