// SPDX-License-Identifier: Apache-2.0
// A directory of the host as the tar of a layer, for `dir:PATH`.
//
// (1) Symbolic links are entries, never followed; everything is reached by descriptors from the directory
//     down.
// (2) Names are sorted bytewise, parents before children, so that the same tree gives the same tar; of
//     several names of one file the first holds the content, the others are hard links.
// (3) Sockets are left out with a warning; names that read as whiteouts are refused; `security.selinux`,
//     which belongs to the host, is left out.
#pragma once

#include <string>

#include "fs/base/result.h"
#include "fs/image/compress.h"

namespace layerfs::image {

/// Errors: ENOENT, ENOTDIR, EACCES naming the entry; kInvalid (whiteout name, path above 4095 bytes); those
/// of `sink`.
Result<void> write_directory_tar(const std::string& path, const ByteSink& sink);

}  // namespace layerfs::image
