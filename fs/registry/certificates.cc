// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>

#include <algorithm>

#include "fs/base/sys_file.h"
#include "fs/registry/registry_client.h"

namespace layerfs::registry {

Result<TlsFiles> find_certificates(const ConfigPaths& config_paths, const std::string& host) {
  TlsFiles files;
  for (const auto& parent : config_paths.certificate_dirs()) {
    std::string dir = join_path(parent, host);
    auto there = find_stat_at(AT_FDCWD, dir, 0);
    // What may not be looked at is passed over, as containers/image does: it may be another user's configuration.
    if (!there && (there.error().code == EACCES || there.error().code == EPERM)) continue;
    if (!there) return std::unexpected(there.error());
    if (!*there) continue;
    LAYERFS_ASSIGN(auto names, list_dir(dir));
    std::ranges::sort(names);
    auto has = [&](const std::string& name) { return std::ranges::binary_search(names, name); };
    for (const auto& name : names) {
      std::string stem = name.substr(0, name.rfind('.'));
      if (name.ends_with(".crt")) files.authorities.push_back(join_path(dir, name));
      if (name.ends_with(".cert")) {
        if (!has(stem + ".key"))
          return invalid_error("certificate", join_path(dir, name), "its key is missing");
        files.certificate = join_path(dir, name);
        files.key = join_path(dir, stem + ".key");
      }
      if (name.ends_with(".key") && !has(stem + ".cert"))
        return invalid_error("key", join_path(dir, name), "its certificate is missing");
    }
    return files;
  }
  return files;
}

}  // namespace layerfs::registry
