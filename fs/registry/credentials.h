// SPDX-License-Identifier: Apache-2.0
// Who we are for a registry: what the caller gave, else what files and helpers know (containers-auth.json(5)).
//
// (1) Credentials are found for a host and are for that host alone. No message quotes a secret.
// (2) A helper is a program docker-credential-NAME of $PATH; NAME has letters, digits, '-', '_' and '.' only. It is
//     ended where it takes longer than kHelperPatience or says more than kMaxHelperAnswer.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/result.h"
#include "fs/registry/auth_file.h"
#include "fs/registry/config_paths.h"
#include "fs/registry/registries_conf.h"

namespace layerfs::registry {

inline constexpr std::chrono::seconds kHelperPatience{60};
inline constexpr std::size_t kMaxHelperAnswer = std::size_t{1} << 20;

/// "USER:PASSWORD" of --creds. Errors: kInvalid, without quoting it.
Result<Credentials> parse_credentials(std::string_view text);

/// `auth_file`: the caller's --authfile, else "". In order: that file alone, $REGISTRY_AUTH_FILE alone, else the
/// login's, the user's, Docker's. nullopt: nobody knows any. Errors: a file that was named and is not there; one that
/// cannot be read; a helper that fails.
Result<std::optional<Credentials>> find_user_credentials(const ConfigPaths& config_paths,
                                                         const RegistriesConf& conf,
                                                         const std::string& auth_file,
                                                         const std::string& host, const std::string& path);

/// Stands in the list of helpers of registries.conf for the files of credentials.
inline constexpr std::string_view kFileHelper = "containers-auth.json";
/// What Docker's own programs know a registry by: its hub by a URL.
std::string docker_server(const std::string& host);

/// What docker-credential-`name` knows of `server`. Errors: kSystem, kInvalid naming the helper.
Result<std::optional<Credentials>> ask_helper(const std::string& name, const std::string& server);
/// The servers that docker-credential-`name` knows something of. Errors: as ask_helper().
Result<std::vector<std::string>> list_helper(const std::string& name);
/// Has docker-credential-`name` keep them, or forget them. Errors: as ask_helper().
Result<void> store_in_helper(const std::string& name, const std::string& server,
                             const Credentials& credentials);
Result<void> erase_in_helper(const std::string& name, const std::string& server);

}  // namespace layerfs::registry
