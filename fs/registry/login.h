// SPDX-License-Identifier: Apache-2.0
// What a login leaves and a logout takes away: an entry of a file of credentials (containers-auth.json(5)), or what a
// helper keeps.
//
// (1) A file is replaced by rename, mode 0600; what else is in it stays as it was, what nobody here understands too.
// (2) Where the file names a helper for the host (credHelpers), or registries.conf one for all, that keeps the secret, and
//     the file has none.
// (3) No message quotes a secret.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "fs/base/result.h"
#include "fs/registry/auth_file.h"
#include "fs/registry/config_paths.h"
#include "fs/registry/registries_conf.h"

namespace layerfs::registry {

/// "host[:port][/path]" of what a user wrote for a registry, with or without a scheme. Errors: kInvalid.
Result<std::string> parse_login_name(std::string_view text);

/// The file that a login writes: `auth_file`, else $REGISTRY_AUTH_FILE, else the login's of this session.
std::string login_file(const ConfigPaths& config_paths, const std::string& auth_file);

/// Pure: the text of a file of credentials with the entry for `key`, in place of an older one. Errors: kInvalid where
/// `text` is no such file.
Result<std::string> put_auth_entry(std::string_view text, const std::string& key,
                                   const Credentials& credentials);
/// Pure: without the entries for `key`; nullopt: it has none. With an empty key: without any.
Result<std::optional<std::string>> take_auth_entry(std::string_view text, const std::string& key);

/// Errors: EACCES, ENOSPC...; a helper's failure.
Result<void> store_login(const ConfigPaths& config_paths, const RegistriesConf& conf,
                         const std::string& auth_file, const std::string& key,
                         const Credentials& credentials);
/// Whether there was something to take away.
Result<bool> remove_login(const ConfigPaths& config_paths, const RegistriesConf& conf,
                          const std::string& auth_file, const std::string& key);
/// Everything of the file, and of its helpers what they have for the hosts that it names.
Result<void> remove_all_logins(const ConfigPaths& config_paths, const RegistriesConf& conf,
                               const std::string& auth_file);

}  // namespace layerfs::registry
