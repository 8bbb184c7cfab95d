// SPDX-License-Identifier: Apache-2.0
#include "fs/registry/config_paths.h"

#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <cstdlib>

#include "fs/base/sys_file.h"

namespace layerfs::registry {

namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : value;
}

std::string below_home(const std::string& home, std::string_view name) {
  return home.empty() ? std::string() : join_path(home, name);
}

}  // namespace

std::string ConfigPaths::runtime_auth_file() const {
  if (!runtime_dir.empty()) return join_path(runtime_dir, "containers/auth.json");
  return fmt::format("/run/containers/{}/auth.json", ::getuid());
}

std::vector<std::string> ConfigPaths::certificate_dirs() const {
  std::vector<std::string> dirs;
  if (!config_home.empty()) dirs.push_back(join_path(config_home, "containers/certs.d"));
  dirs.push_back(join_path(etc, "containers/certs.d"));
  dirs.push_back(join_path(etc, "docker/certs.d"));
  return dirs;
}

ConfigPaths config_paths_from_environment() {
  ConfigPaths paths;
  paths.home = environment("HOME");
  if (paths.home.empty())
    if (const passwd* entry = ::getpwuid(::getuid()); entry != nullptr) paths.home = entry->pw_dir;
  paths.config_home = environment("XDG_CONFIG_HOME");
  if (paths.config_home.empty()) paths.config_home = below_home(paths.home, ".config");
  paths.cache_home = ::geteuid() == 0 ? "/var/cache" : below_home(paths.home, ".cache");
  paths.runtime_dir = environment("XDG_RUNTIME_DIR");
  paths.docker_config = environment("DOCKER_CONFIG");
  if (paths.docker_config.empty()) paths.docker_config = below_home(paths.home, ".docker");
  paths.auth_file = environment("REGISTRY_AUTH_FILE");
  paths.registries_conf = environment("CONTAINERS_REGISTRIES_CONF");
  return paths;
}

}  // namespace layerfs::registry
