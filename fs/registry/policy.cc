// SPDX-License-Identifier: Apache-2.0
#include "fs/registry/policy.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "fs/base/sys_file.h"
#include "fs/registry/json.h"

namespace layerfs::registry {

namespace {

constexpr std::size_t kMaxPolicy = std::size_t{4} << 20;
constexpr std::string_view kAccept = "insecureAcceptAnything";
constexpr std::string_view kReject = "reject";

Result<Requirements> requirements_of(const Json& list, const std::string& scope) {
  constexpr std::string_view kKnown[] = {kAccept, kReject, "signedBy", "sigstoreSigned", "signedBaseLayer"};
  if (!list.is_array() || list.empty())
    return refuse(fmt::format("the scope '{}' has no requirements", scope));
  Requirements requirements;
  for (const auto& item : list) {
    std::string type = item.is_object() ? text_or_none(item, "type") : std::string();
    if (std::ranges::find(kKnown, type) == std::end(kKnown))
      return refuse(fmt::format("the scope '{}' requires '{}', which nobody knows", scope, type));
    requirements.push_back(std::move(type));
  }
  return requirements;
}

/// From the longest to the shortest, as containers/image looks them up.
std::vector<std::string> scopes_of(const Reference& reference) {
  std::vector<std::string> scopes;
  scopes.push_back(reference.name() +
                   (reference.digest.empty() ? ':' + reference.tag : '@' + reference.digest));
  for (std::string name = reference.name();; name.resize(name.rfind('/'))) {
    scopes.push_back(name);
    if (name.find('/') == std::string::npos) break;
  }
  std::string domain = reference.host.substr(0, reference.host.rfind(':'));
  for (std::size_t dot = domain.find('.'); dot != std::string::npos; dot = domain.find('.', dot + 1))
    scopes.push_back('*' + domain.substr(dot));
  scopes.emplace_back();
  return scopes;
}

}  // namespace

Result<Policy> parse_policy(std::string_view text) {
  LAYERFS_ASSIGN(Json json, parse_json(text));
  Policy policy;
  const Json* fallback = find_member(json, "default");
  if (fallback == nullptr) return refuse("no 'default'");
  LAYERFS_ASSIGN(policy.fallback, requirements_of(*fallback, "default"));
  const Json* transports = find_member(json, "transports");
  if (transports == nullptr) return policy;
  if (!transports->is_object()) return refuse("'transports' is no object");
  const Json* docker = find_member(*transports, "docker");
  if (docker == nullptr) return policy;
  if (!docker->is_object()) return refuse("the transport 'docker' is no object");
  for (const auto& [scope, list] : docker->items()) {
    LAYERFS_ASSIGN(policy.scopes[scope], requirements_of(list, scope));
  }
  return policy;
}

Result<Policy> read_policy(const ConfigPaths& config_paths) {
  std::vector<std::string> files;
  if (!config_paths.home.empty())
    files.push_back(join_path(config_paths.home, ".config/containers/policy.json"));
  files.push_back(join_path(config_paths.etc, "containers/policy.json"));
  for (const auto& file : files) {
    LAYERFS_ASSIGN(auto there, find_stat_at(AT_FDCWD, file, 0));
    if (!there) continue;
    LAYERFS_ASSIGN(std::string text, read_file(file, kMaxPolicy));
    auto policy = parse_policy(text);
    if (!policy) return with_context(policy.error(), "read", file);
    return policy;
  }
  return Policy{{std::string(kAccept)}, {}};
}

Result<void> check_policy(const Policy& policy, const Reference& reference) {
  const Requirements* requirements = &policy.fallback;
  std::string where = "default";
  for (const auto& scope : scopes_of(reference)) {
    auto found = policy.scopes.find(scope);
    if (found == policy.scopes.end()) continue;
    requirements = &found->second;
    where = fmt::format("docker '{}'", scope);
    break;
  }
  for (const auto& type : *requirements) {
    if (type == kAccept) continue;
    auto refused = system_error(EACCES, "policy.json", reference.str());
    refused.error().reason =
        type == kReject
            ? fmt::format("rejected by its scope {}", where)
            : fmt::format("its scope {} requires '{}', and signatures cannot be checked", where, type);
    return refused;
  }
  return {};
}

}  // namespace layerfs::registry
