// SPDX-License-Identifier: Apache-2.0
// A service's word that it is up (sd_notify(3)), from a container to whoever started it. The caller's socket
// is not the container's to write to: it gets one of its own, whose only message that counts is passed on.
//
//   create  adds the mount and the variable, makes the directory
//   start   binds the socket in it, starts the program, waits for READY=1 or for the end
//
// (1) Nothing is done where $NOTIFY_SOCKET is not set, or where config.json has the variable or the mount
//     itself: then the engine does all of this.
// (2) What comes from the container is read for "READY=1" alone; the message that is sent is ours.
#pragma once

#include <sys/types.h>

#include <string>

#include "fs/base/fd.h"
#include "fs/base/result.h"
#include "runtime/spec/container_spec.h"

namespace layerfs::container {

/// The mount and the variable. False where there is nothing to do. `directory`: absolute, made by the caller.
bool add_notify_socket(spec::ContainerSpec& spec, const std::string& directory);
/// The socket in `directory`; empty where that is not there, or $NOTIFY_SOCKET is not set.
Result<Fd> bind_notify_socket(const std::string& directory);
/// Returns when the container has said that it is ready and $NOTIFY_SOCKET knows, with `pid` as the main
/// process; or when it has ended (`pidfd`), or something can be read from `stop_fd` (-1: nothing).
Result<void> pass_on_ready(int socket, pid_t pid, int pidfd, int stop_fd);

}  // namespace layerfs::container
