// SPDX-License-Identifier: Apache-2.0
// Finding, and where they are missing making, the targets of mounts inside a container's root.
//
// (1) Symbolic links are read and resolved here, component by component, as chroot(2) would: no name of the
//     image leads out of the root, whatever another process that shares a volume changes meanwhile.
// (2) The result is a descriptor (O_PATH) of what is to be mounted on, never a path.
#pragma once

#include <cstdint>
#include <string>

#include "fs/base/fd.h"
#include "fs/base/result.h"
#include "runtime/sys/syscalls.h"

namespace layerfs::container {

enum class TargetKind : std::uint8_t { kDirectory, kFile };

/// Opens `path` inside the root, making missing directories (0755) and, with kFile, an empty file at its end.
/// Errors: ELOOP; ENOTDIR; EROFS, EACCES... where something is missing and cannot be made.
Result<Fd> open_or_make(sys::Syscalls& calls, int root_fd, const std::string& path, TargetKind kind);

/// The directory of the last component (made where it is missing) and that component's name.
struct ParentAndName {
  Fd parent;
  std::string name;
};
Result<ParentAndName> open_parent(sys::Syscalls& calls, int root_fd, const std::string& path);

/// A regular file inside the root, up to `limit` bytes; empty where it is not there. Errors: kInvalid where
/// it is longer or no regular file.
Result<std::string> read_small_file(sys::Syscalls& calls, int root_fd, const std::string& path,
                                    std::size_t limit);

}  // namespace layerfs::container
