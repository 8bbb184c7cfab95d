// SPDX-License-Identifier: Apache-2.0
// The table of low-level operations, filled by one function a file. An operation is: unpack, call, reply.
//
// What the kernel is told never to send again (ENOSYS once): OPEN, OPENDIR and CREATE. Requests then carry
// no handle, and the kernel keeps file and directory caches over opens. CREATE becomes MKNOD, which saves
// the RELEASE that follows a CREATE.
#pragma once

#include "fs/fuse/libfuse.h"

namespace layerfs::fuse {

void add_lookup_operations(fuse_lowlevel_ops& operations);  ///< lookup forget getattr setattr readlink statfs
void add_change_operations(
    fuse_lowlevel_ops& operations);  ///< mknod mkdir symlink unlink rmdir rename link tmpfile
void add_directory_operations(fuse_lowlevel_ops& operations);  ///< readdir readdirplus fsyncdir
void add_file_operations(
    fuse_lowlevel_ops& operations);  ///< read write fsync fallocate lseek copy_file_range
void add_xattr_operations(fuse_lowlevel_ops& operations);

}  // namespace layerfs::fuse
