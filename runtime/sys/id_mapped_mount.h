// SPDX-License-Identifier: Apache-2.0
// Mounts that are attached nowhere yet, and idmapped bind mounts (mount_setattr(2), "ID-mapped mounts"): a
// mount in which the ids of its source appear as others, by the map of a user namespace. Only who has
// CAP_SYS_ADMIN over the source's file system makes them, which is the container's creator and not its init.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "fs/base/fd.h"
#include "fs/base/result.h"

namespace layerfs::sys {

/// A user namespace with these maps (lines of uid_map) and nobody in it. Requires: a single-threaded caller
/// with CAP_SETUID and CAP_SETGID. Errors: EINVAL (a map that the kernel does not take), EPERM.
Result<Fd> make_user_namespace(const std::string& uid_map, const std::string& gid_map);

enum class MountExtent : std::uint8_t { kTop, kTree };
/// A copy of the mount (tree) at `source_fd`, attached nowhere. Errors: EPERM; kUnsupported before Linux 5.2.
Result<Fd> copy_mount(int source_fd, MountExtent extent);
/// A new mount of a file system of this type, attached nowhere. Errors: EPERM; ENOSYS before Linux 5.2.
Result<Fd> make_mount(const std::string& type);
/// A mount of nothing but a device node with that owner and mode, attached nowhere. Errors: EPERM (mknod(2));
/// EINVAL before Linux 6.15.
Result<Fd> make_device_mount(mode_t mode, std::uint64_t rdev, uid_t uid, gid_t gid);
/// The copy (or only its top) shows its ids by the map of `namespace_fd`. Errors: EINVAL where a file system
/// does not do that; EPERM; kUnsupported before Linux 5.12.
Result<void> map_ids(int tree_fd, MountExtent extent, int namespace_fd);

}  // namespace layerfs::sys
