// SPDX-License-Identifier: Apache-2.0
// One walk along a path that somebody else may have prepared: openat2(2), and where the kernel has none, or a
// seccomp profile refuses it, the same walk one component at a time. open_in_root (sys_file.h) and open_own_at
// (own_files.h) are its users. Any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "fs/base/fd.h"
#include "fs/base/result.h"

namespace layerfs {

enum class Resolve : std::uint8_t {
  kInRoot,  ///< RESOLVE_IN_ROOT: links are followed, "/" and ".." never lead out of the directory
  kNoLinks  ///< RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS: a link is ELOOP, an absolute path and ".." are EXDEV
};

/// `flags` and `mode` as for open(2). An empty path is the directory itself. Errors: as errno, without text.
Result<Fd> open_resolved(int dir_fd, const std::string& path, int flags, mode_t mode, Resolve resolve);

}  // namespace layerfs
