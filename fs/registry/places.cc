// SPDX-License-Identifier: Apache-2.0
#include "fs/registry/places.h"

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

std::string Places::runtime_auth_file() const {
  if (!runtime_dir.empty()) return join_path(runtime_dir, "containers/auth.json");
  return fmt::format("/run/containers/{}/auth.json", ::getuid());
}

std::vector<std::string> Places::certificate_dirs() const {
  std::vector<std::string> dirs;
  if (!config_home.empty()) dirs.push_back(join_path(config_home, "containers/certs.d"));
  dirs.push_back(join_path(etc, "containers/certs.d"));
  dirs.push_back(join_path(etc, "docker/certs.d"));
  return dirs;
}

Places places_from_environment() {
  Places places;
  places.home = environment("HOME");
  if (places.home.empty())
    if (const passwd* entry = ::getpwuid(::getuid()); entry != nullptr) places.home = entry->pw_dir;
  places.config_home = environment("XDG_CONFIG_HOME");
  if (places.config_home.empty()) places.config_home = below_home(places.home, ".config");
  places.cache_home = ::geteuid() == 0 ? "/var/cache" : below_home(places.home, ".cache");
  places.runtime_dir = environment("XDG_RUNTIME_DIR");
  places.docker_config = environment("DOCKER_CONFIG");
  if (places.docker_config.empty()) places.docker_config = below_home(places.home, ".docker");
  places.auth_file = environment("REGISTRY_AUTH_FILE");
  places.registries_conf = environment("CONTAINERS_REGISTRIES_CONF");
  return places;
}

}  // namespace layerfs::registry
