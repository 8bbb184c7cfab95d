// SPDX-License-Identifier: Apache-2.0
// The control socket of a live mount: a unix socket in the upper's directory, lines of text.
//   "freeze\n" -> "ok\n" | "error MESSAGE\n": the mount is synced and holds changes back until the connection
//                 closes (so that a commit that dies never leaves it frozen)
//   "stats\n"  -> one line of JSON
// Only the owner of the directory can reach it.
#pragma once

#include <string>

#include "fs/base/fd.h"
#include "fs/base/result.h"

namespace layerfs::mount {

/// Freezes the mount of an upper while the returned descriptor is open; an empty Fd where nothing is mounted.
Result<Fd> freeze_upper(const std::string& upper_dir);

/// Whether what freeze_upper() returned still holds the mount. Errors: ECONNRESET where its server died
/// meanwhile, so that the mount went on changing.
Result<void> check_frozen(const Fd& frozen);

/// The line of JSON that the mount's server answers; empty where nothing is mounted.
Result<std::string> mount_stats(const std::string& upper_dir);

}  // namespace layerfs::mount
