// SPDX-License-Identifier: Apache-2.0
#include "fs/mount/container_dir.h"

#include <fcntl.h>

#include "fs/base/own_files.h"
#include "fs/base/sys_file.h"

namespace layerfs::mount {

Result<Fd> open_container_file(const std::string& directory, const std::string& name, int flags,
                               mode_t mode) {
  LAYERFS_ASSIGN(Fd opened, open_file(directory, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  auto file = open_own_at(opened.get(), name, flags, mode);
  if (!file) return with_context(file.error(), "in", directory);
  return file;
}

Result<std::string> read_container_file(const std::string& directory, const std::string& name,
                                        std::size_t limit) {
  LAYERFS_ASSIGN(Fd opened, open_file(directory, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  auto text = read_own_at(opened.get(), name, limit);
  if (!text) return with_context(text.error(), "in", directory);
  return text;
}

Result<Fd> open_container_log(const std::string& directory, const std::string& name) {
  return open_container_file(directory, name, O_WRONLY | O_CREAT | O_APPEND, 0600);
}

}  // namespace layerfs::mount
