// SPDX-License-Identifier: Apache-2.0
// ConfigPaths: where this user's and this machine's configuration of registries lies, as the environment says. A value, so
// that tests can name their own.
#pragma once

#include <string>
#include <vector>

namespace layerfs::registry {

struct ConfigPaths {
  std::string etc = "/etc";
  std::string home;             ///< empty: none
  std::string config_home;      ///< $XDG_CONFIG_HOME, else ~/.config
  std::string cache_home;       ///< ~/.cache for a user, /var/cache for root: short-name-aliases.conf
  std::string runtime_dir;      ///< $XDG_RUNTIME_DIR; empty: /run/containers/UID stands for it
  std::string docker_config;    ///< $DOCKER_CONFIG, else ~/.docker
  std::string auth_file;        ///< $REGISTRY_AUTH_FILE
  std::string registries_conf;  ///< $CONTAINERS_REGISTRIES_CONF

  /// containers/auth.json of a login: containers-auth.json(5).
  std::string runtime_auth_file() const;
  /// Directories that may hold HOST[:PORT] (containers-certs.d(5)), the first that has one counts.
  std::vector<std::string> certificate_dirs() const;
};

ConfigPaths config_paths_from_environment();

}  // namespace layerfs::registry
