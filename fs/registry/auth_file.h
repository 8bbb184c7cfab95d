// SPDX-License-Identifier: Apache-2.0
// Files of credentials: containers-auth.json(5), Docker's config.json and .dockercfg. Pure; any thread.
//
// (1) Parsing is total. No error of it quotes a secret.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "fs/base/result.h"

namespace layerfs::registry {

struct Credentials {
  std::string user;
  std::string password;
  std::string identity_token;  ///< where set, it is exchanged for tokens, and user and password mean nothing
  bool operator==(const Credentials&) const = default;
};

struct AuthFile {
  std::map<std::string, Credentials> auths;    ///< by "host", "host/ns", "host/ns/repo", or an old URL
  std::map<std::string, std::string> helpers;  ///< credHelpers: host -> NAME of docker-credential-NAME
  std::string store;                           ///< credsStore
  bool operator==(const AuthFile&) const = default;
};

/// No file of credentials is longer.
inline constexpr std::size_t kMaxAuthFile = std::size_t{4} << 20;

enum class AuthFileKind : bool { kCurrent, kDockercfg };
/// Errors: kInvalid, saying what is wrong without quoting it.
Result<AuthFile> parse_auth_file(std::string_view text, AuthFileKind kind);

/// The entry with the longest key that is `host`/`path` or a beginning of it at a slash; docker.io is also known by
/// the URL that Docker writes. nullopt: none.
std::optional<Credentials> find_credentials(const AuthFile& file, const std::string& host,
                                            const std::string& path);

/// "host" of "https://host/v1/" and of "host".
std::string normalised_auth_key(std::string_view key);

/// base64, with padding. nullopt: `text` is none.
std::optional<std::string> decode_base64(std::string_view text);
std::string encode_base64(std::string_view bytes);

}  // namespace layerfs::registry
