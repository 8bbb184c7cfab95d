// SPDX-License-Identifier: Apache-2.0
#include "fs/registry/login.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>

#include "fs/base/sys_file.h"
#include "fs/registry/credentials.h"
#include "fs/registry/json.h"
#include "fs/registry/reference.h"

namespace layerfs::registry {

namespace {

using OrderedJson = nlohmann::ordered_json;

Result<OrderedJson> parse_whole(std::string_view text) {
  LAYERFS_TRY(parse_auth_file(text, AuthFileKind::kCurrent));
  OrderedJson json = OrderedJson::parse(text, nullptr, false);  // an empty file is one without entries
  return json.is_object() ? json : OrderedJson::object();
}

/// As Go's programs write it.
std::string text_of(const OrderedJson& json) {
  return json.dump(1, '\t', false, OrderedJson::error_handler_t::replace);
}

bool is_same_entry(const std::string& key, const std::string& wanted) {
  if (key == wanted) return true;
  // Docker's URLs stand for their host.
  return wanted.find('/') == std::string::npos && key.find("://") != std::string::npos &&
         normalised_auth_key(key) == normalised_auth_key(wanted);
}

struct LoginFile {
  std::string name;
  std::string text;
  AuthFile parsed;
};

Result<LoginFile> read_login_file(const ConfigPaths& config_paths, const std::string& auth_file) {
  LoginFile file{login_file(config_paths, auth_file), {}, {}};
  // What a link leads to is written, not the link's place.
  if (std::unique_ptr<char, decltype(&std::free)> real(::realpath(file.name.c_str(), nullptr), &std::free);
      real)
    file.name = real.get();
  LAYERFS_ASSIGN(auto there, find_stat_at(AT_FDCWD, file.name, 0));
  if (there) {
    LAYERFS_ASSIGN(file.text, read_file(file.name, kMaxAuthFile));
  }
  auto parsed = parse_auth_file(file.text, AuthFileKind::kCurrent);
  if (!parsed) return with_context(parsed.error(), "read", file.name);
  file.parsed = std::move(*parsed);
  return file;
}

Result<void> write_login_file(const LoginFile& file, const std::string& text) {
  std::size_t slash = file.name.rfind('/');
  if (slash != std::string::npos && slash > 0) LAYERFS_TRY(make_dirs(file.name.substr(0, slash), 0700));
  return write_file_atomic(file.name, text, 0600);
}

/// A helper, and what it knows the registry by.
struct KeptByHelper {
  std::string helper;
  std::string server;
};

/// The first of registries.conf's helpers, where a file that the user named does not stand for them all; "": none,
/// or the file is the first.
std::string default_helper(const ConfigPaths& config_paths, const RegistriesConf& conf,
                           const std::string& auth_file) {
  bool has_one = auth_file.empty() && config_paths.auth_file.empty() && conf.credential_helpers &&
                 !conf.credential_helpers->empty();
  return has_one && conf.credential_helpers->front() != kFileHelper ? conf.credential_helpers->front() : "";
}

/// Who keeps what belongs to `key`, as find_user_credentials() will ask; nullopt: the file. Errors: kInvalid where a
/// helper would have to keep what is for a part of a registry.
Result<std::optional<KeptByHelper>> helper_of(const LoginFile& file, const ConfigPaths& config_paths,
                                              const RegistriesConf& conf, const std::string& auth_file,
                                              const std::string& key) {
  std::string host = key.substr(0, key.find('/'));
  std::optional<KeptByHelper> found;
  for (const auto& server : {host, docker_server(host)})
    if (auto at = file.parsed.helpers.find(server); !found && at != file.parsed.helpers.end())
      found = KeptByHelper{at->second, server};
  if (std::string helper = default_helper(config_paths, conf, auth_file); !found && !helper.empty())
    found = KeptByHelper{helper, host};
  if (found && host != key)
    return invalid_error("registry", key,
                         fmt::format("docker-credential-{} keeps what is for the whole of {}: name that",
                                     found->helper, host));
  return found;
}

/// True where it had something.
Result<bool> forget_in_helper(const std::string& helper, const std::string& server) {
  LAYERFS_ASSIGN(auto found, ask_helper(helper, server));
  if (found) LAYERFS_TRY(erase_in_helper(helper, server));
  return found.has_value();
}

}  // namespace

Result<std::string> parse_login_name(std::string_view text) {
  std::string_view name = text;
  for (std::string_view scheme : {"https://", "http://"})
    if (name.starts_with(scheme)) name.remove_prefix(scheme.size());
  while (name.ends_with('/')) name.remove_suffix(1);
  // With a repository behind it the host is as in any name of an image.
  std::string key(name);
  std::size_t slash = key.find('/');
  std::string host = key.substr(0, slash);
  std::string path = slash == std::string::npos ? "x" : key.substr(slash + 1);
  bool looks_like_host = host.find_first_of(".:") != std::string::npos || host == "localhost";
  auto parsed = parse_image_reference((looks_like_host ? host : host + ".test") + '/' + path);
  if (host.empty() || !parsed || !parsed->tag.empty() || !parsed->digest.empty())
    return invalid_error("registry", text, "not HOST[:PORT][/NAME]");
  if (host == "index.docker.io" || host == "registry-1.docker.io") key.replace(0, host.size(), "docker.io");
  return key;
}

std::string login_file(const ConfigPaths& config_paths, const std::string& auth_file) {
  if (!auth_file.empty()) return auth_file;
  return config_paths.auth_file.empty() ? config_paths.runtime_auth_file() : config_paths.auth_file;
}

Result<std::string> put_auth_entry(std::string_view text, const std::string& key,
                                   const Credentials& credentials) {
  LAYERFS_ASSIGN(OrderedJson json, parse_whole(text));
  if (!json.contains("auths") || !json["auths"].is_object()) json["auths"] = OrderedJson::object();
  json["auths"][key] = {{"auth", encode_base64(credentials.user + ':' + credentials.password)}};
  return text_of(json);
}

Result<std::optional<std::string>> take_auth_entry(std::string_view text, const std::string& key) {
  LAYERFS_ASSIGN(OrderedJson json, parse_whole(text));
  if (!json.contains("auths") || !json["auths"].is_object()) return std::nullopt;
  OrderedJson kept = OrderedJson::object();
  for (const auto& [name, entry] : json["auths"].items())
    if (!key.empty() && !is_same_entry(name, key)) kept[name] = entry;
  if (kept.size() == json["auths"].size()) return std::nullopt;
  json["auths"] = std::move(kept);
  return text_of(json);
}

Result<void> store_login(const ConfigPaths& config_paths, const RegistriesConf& conf,
                         const std::string& auth_file, const std::string& key,
                         const Credentials& credentials) {
  LAYERFS_ASSIGN(LoginFile file, read_login_file(config_paths, auth_file));
  LAYERFS_ASSIGN(const auto kept, helper_of(file, config_paths, conf, auth_file, key));
  if (kept) return store_in_helper(kept->helper, kept->server, credentials);
  LAYERFS_ASSIGN(std::string text, put_auth_entry(file.text, key, credentials));
  return write_login_file(file, text);
}

Result<bool> remove_login(const ConfigPaths& config_paths, const RegistriesConf& conf,
                          const std::string& auth_file, const std::string& key) {
  LAYERFS_ASSIGN(LoginFile file, read_login_file(config_paths, auth_file));
  bool was_there = false;
  LAYERFS_ASSIGN(const auto kept, helper_of(file, config_paths, conf, auth_file, key));
  if (kept) {
    LAYERFS_ASSIGN(was_there, forget_in_helper(kept->helper, kept->server));
  }
  LAYERFS_ASSIGN(auto text, take_auth_entry(file.text, key));
  if (text) LAYERFS_TRY(write_login_file(file, *text));
  return was_there || text.has_value();
}

Result<void> remove_all_logins(const ConfigPaths& config_paths, const RegistriesConf& conf,
                               const std::string& auth_file) {
  LAYERFS_ASSIGN(LoginFile file, read_login_file(config_paths, auth_file));
  for (const auto& [host, helper] : file.parsed.helpers) LAYERFS_TRY(forget_in_helper(helper, host));
  if (std::string helper = default_helper(config_paths, conf, auth_file); !helper.empty()) {
    LAYERFS_ASSIGN(const auto servers, list_helper(helper));
    for (const auto& server : servers) LAYERFS_TRY(erase_in_helper(helper, server));
  }
  LAYERFS_ASSIGN(auto text, take_auth_entry(file.text, {}));
  return text ? write_login_file(file, *text) : Result<void>{};
}

}  // namespace layerfs::registry
