// SPDX-License-Identifier: Apache-2.0
// Moving a network interface into another network namespace, by rtnetlink(7).
#pragma once

#include <string>

#include "fs/base/result.h"

namespace layerfs::sys {

/// Moves `name` out of the caller's network namespace into the one of `namespace_fd` as `new_name` ("eth%d":
/// the first that is free there), sets it up and gives it back its permanent addresses of global scope, which
/// the kernel takes away. Nothing has changed after an error of the first part: ENODEV (no such interface
/// here), EEXIST (one of the new name there). What fails later leaves the interface there: it goes with that
/// namespace, to the first one where it is hardware. Requires: a single-threaded caller with CAP_SYS_ADMIN,
/// since it enters the namespace for a moment, and CAP_NET_ADMIN.
Result<void> move_net_device(const std::string& name, const std::string& new_name, int namespace_fd);

}  // namespace layerfs::sys
