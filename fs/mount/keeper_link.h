// SPDX-License-Identifier: Apache-2.0
// KeeperLink: the socket from a server to the process that keeps its mount alive. Datagrams: a Handover once
// the first server answers, an empty one once a later one has taken over. Its end of file is the server's
// death.
#pragma once

#include <optional>
#include <utility>

#include "fs/base/fd.h"
#include "fs/base/result.h"
#include "fs/fuse/fuse_server.h"

namespace layerfs::mount {

/// The keeper's end and the server's.
Result<std::pair<Fd, Fd>> make_keeper_link();

/// Tells that the server answers: with what the next one needs, or, without a device, alone. Errors: EPIPE.
Result<void> tell_keeper(int link, const fuse::Handover& handover);

/// What the server told; nullopt where it is dead and everything it told was read. Waits.
Result<std::optional<fuse::Handover>> hear_server(int link);

}  // namespace layerfs::mount
