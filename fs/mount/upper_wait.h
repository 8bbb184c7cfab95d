// SPDX-License-Identifier: Apache-2.0
// Opening an upper whose lock another process still has: a server that is on its way out (umount(8) returns
// before it has closed the upper), or a commit of an upper that is not mounted.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "fs/base/result.h"
#include "fs/mount/mount.h"
#include "fs/mount/mount_request.h"
#include "fs/tree/upper_layer.h"

namespace layerfs::mount {

/// A mount that starts waits some seconds, and not at all for an upper that is mounted here. One that takes a
/// live mount over waits as long as that mount is there (`device`; may be -1): its keeper must not take the
/// wait for a death. Errors: EBUSY with words that say who has the upper; ENODEV where the mount has gone
/// meanwhile, or was unmounted because of one of ending_signals(); those of upper::open_delta().
Result<std::shared_ptr<tree::UpperLayer>> open_upper(const MountRequest& request, OpenFor what, int device);

/// "process 71 (layerfs commit u name)" of who holds a flock(2) on the file; "another process" where the
/// kernel does not say.
std::string describe_lock_holder(const std::string& path);

/// The process of the line of /proc/locks that holds a flock(2) on a file. `file`: "08:02:1234".
std::optional<int> find_lock_holder(std::string_view locks, std::string_view file);

}  // namespace layerfs::mount
