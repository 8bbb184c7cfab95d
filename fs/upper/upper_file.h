// SPDX-License-Identifier: Apache-2.0
// Opening the files of an upper. Any thread.
#pragma once

#include <sys/types.h>

#include <string>

#include "fs/base/fd.h"
#include "fs/base/result.h"

namespace layerfs::upper {

/// `path`, a name in the upper's directory: never through a link there, and nothing but a regular file,
/// without waiting for it (fs/base/own_files.h). Errors: those of open(2) with the path named; ELOOP: a link;
/// kCorrupt: no regular file.
Result<Fd> open_upper_file(const std::string& path, int flags, mode_t mode = 0);

}  // namespace layerfs::upper
