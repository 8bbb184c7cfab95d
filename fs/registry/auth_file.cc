// SPDX-License-Identifier: Apache-2.0
#include "fs/registry/auth_file.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "fs/registry/json.h"

namespace layerfs::registry {

namespace {

constexpr std::string_view kHub = "docker.io";
constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

Result<Credentials> credentials_of(const Json& entry, const std::string& key) {
  if (!entry.is_object()) return refuse(fmt::format("the entry '{}' is no object", key));
  Credentials credentials;
  credentials.identity_token = text_or_none(entry, "identitytoken");
  std::string encoded = text_or_none(entry, "auth");
  if (encoded.empty()) {
    credentials.user = text_or_none(entry, "username");
    credentials.password = text_or_none(entry, "password");
    return credentials;
  }
  auto decoded = decode_base64(encoded);
  std::size_t colon = decoded ? decoded->find(':') : std::string::npos;
  if (colon == std::string::npos)
    return refuse(fmt::format("the 'auth' of '{}' is not base64 of USER:PASSWORD", key));
  credentials.user = decoded->substr(0, colon);
  credentials.password = decoded->substr(colon + 1);
  while (credentials.password.ends_with('\0')) credentials.password.pop_back();  // Docker's padding
  return credentials;
}

}  // namespace

std::optional<std::string> decode_base64(std::string_view text) {
  while (text.ends_with('=')) text.remove_suffix(1);
  if (text.size() % 4 == 1) return std::nullopt;
  std::string bytes;
  std::uint32_t bits = 0;
  unsigned count = 0;
  for (char c : text) {
    std::size_t value = kDigits.find(c);
    if (value == std::string_view::npos) return std::nullopt;
    bits = (bits << 6) | static_cast<std::uint32_t>(value);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes += static_cast<char>((bits >> count) & 0xff);
  }
  return bytes;
}

std::string encode_base64(std::string_view bytes) {
  std::string text;
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < 3; ++i)
      bits = (bits << 8) | (at + i < bytes.size() ? static_cast<unsigned char>(bytes[at + i]) : 0U);
    std::size_t digits = std::min<std::size_t>(bytes.size() - at, 3) + 1;
    for (std::size_t i = 0; i < 4; ++i) text += i < digits ? kDigits[(bits >> (18 - 6 * i)) & 63] : '=';
  }
  return text;
}

std::string normalised_auth_key(std::string_view key) {
  for (std::string_view scheme : {"https://", "http://"})
    if (key.starts_with(scheme)) key.remove_prefix(scheme.size());
  std::string host(key.substr(0, key.find('/')));
  return host == "index.docker.io" || host == "registry-1.docker.io" ? std::string(kHub) : host;
}

Result<AuthFile> parse_auth_file(std::string_view text, AuthFileKind kind) {
  if (text.size() > kMaxAuthFile) return refuse("longer than 4 MiB");
  AuthFile file;
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos)
    return file;  // as containers/image takes it
  LAYERFS_ASSIGN(Json json, parse_json(text));
  const Json* auths = kind == AuthFileKind::kDockercfg ? &json : find_member(json, "auths");
  if (auths != nullptr) {
    if (!auths->is_object()) return refuse("'auths' is no object");
    for (const auto& [key, entry] : auths->items()) {
      LAYERFS_ASSIGN(file.auths[key], credentials_of(entry, key));
    }
  }
  if (kind == AuthFileKind::kDockercfg) return file;
  if (const Json* helpers = find_member(json, "credHelpers")) {
    if (!helpers->is_object()) return refuse("'credHelpers' is no object");
    for (const auto& [host, helper] : helpers->items()) {
      if (!helper.is_string()) return refuse(fmt::format("the helper of '{}' is no string", host));
      file.helpers[host] = helper.get_ref<const std::string&>();
    }
  }
  file.store = text_or_none(json, "credsStore");
  return file;
}

std::optional<Credentials> find_credentials(const AuthFile& file, const std::string& host,
                                            const std::string& path) {
  auto is_empty = [](const Credentials& found) {
    return found.user.empty() && found.password.empty() && found.identity_token.empty();
  };
  for (std::string key = host + '/' + path;;) {
    if (auto found = file.auths.find(key); found != file.auths.end() && !is_empty(found->second))
      return found->second;
    std::size_t slash = key.rfind('/');
    if (slash == std::string::npos) break;
    key.resize(slash);
  }
  for (const auto& [key, found] : file.auths)
    if (key.find("://") != std::string::npos || key.find('/') == std::string::npos)
      if (normalised_auth_key(key) == normalised_auth_key(host) && !is_empty(found)) return found;
  return std::nullopt;
}

}  // namespace layerfs::registry
