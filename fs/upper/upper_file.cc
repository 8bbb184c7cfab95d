// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/upper_file.h"

#include <fcntl.h>

#include <utility>

#include "fs/base/own_files.h"
#include "fs/base/sys_file.h"

namespace layerfs::upper {

Result<Fd> open_upper_file(const std::string& path, int flags, mode_t mode) {
  const auto slash = path.rfind('/');
  std::string directory = slash == std::string::npos ? "." : path.substr(0, slash);
  LAYERFS_ASSIGN(Fd fd, open_file(directory, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  return OwnDirectory(std::move(fd), std::move(directory)).open(path.substr(slash + 1), flags, mode);
}

}  // namespace layerfs::upper
