// SPDX-License-Identifier: Apache-2.0
// Files of our own (own_files.h) in a container's or an upper's directory of the store, and in the store's running/.
#pragma once

#include <sys/types.h>

#include <string>

#include "fs/base/fd.h"
#include "fs/base/result.h"

namespace layerfs::mount {

/// open_own_at() in the directory of that path. Errors: its own, and those of opening the directory.
Result<Fd> open_container_file(const std::string& directory, const std::string& name, int flags,
                               mode_t mode = 0);
/// The whole of such a file. Errors: the same; kInvalid where it has more than `limit` bytes.
Result<std::string> read_container_file(const std::string& directory, const std::string& name,
                                        std::size_t limit);
/// A file that lines are added to, made if it is not there.
Result<Fd> open_container_log(const std::string& directory, const std::string& name);

}  // namespace layerfs::mount
