// SPDX-License-Identifier: Apache-2.0
#include "fs/registry/registries_conf.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>

#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

#include "fs/base/refuse.h"
#include "fs/base/sys_file.h"

namespace layerfs::registry {

namespace {

constexpr std::size_t kMaxFile = std::size_t{4} << 20;
constexpr std::size_t kMaxEntries = 10'000;

Result<std::string> text_of(const toml::table& table, std::string_view key) {
  const toml::node* node = table.get(key);
  if (node == nullptr) return std::string();
  if (!node->is_string()) return refuse(fmt::format("'{}' is no string", key));
  return node->as_string()->get();
}

Result<bool> flag_of(const toml::table& table, std::string_view key) {
  const toml::node* node = table.get(key);
  if (node == nullptr) return false;
  if (!node->is_boolean()) return refuse(fmt::format("'{}' is neither true nor false", key));
  return node->as_boolean()->get();
}

Result<std::optional<std::vector<std::string>>> texts_of(const toml::table& table, std::string_view key) {
  const toml::node* node = table.get(key);
  if (node == nullptr) return std::nullopt;
  const toml::array* array = node->as_array();
  if (array == nullptr || array->size() > kMaxEntries)
    return refuse(fmt::format("'{}' is no array of strings", key));
  std::vector<std::string> texts;
  for (const auto& item : *array) {
    if (!item.is_string()) return refuse(fmt::format("'{}' holds something other than strings", key));
    texts.push_back(item.as_string()->get());
  }
  return texts;
}

/// A registry, or a namespace below one. A closing slash goes.
Result<std::string> location_of(std::string text, std::string_view key) {
  while (text.ends_with('/')) text.pop_back();
  if (text.starts_with("http://") || text.starts_with("https://"))
    return refuse(fmt::format("'{}' is '{}': a host, with no scheme, is wanted", key, text));
  if (text.find_first_of(" \t\r\n@?#") != std::string::npos)
    return refuse(fmt::format("'{}' is '{}', which is no registry", key, text));
  return text;
}

Result<Mirror> mirror_of(const toml::table& table, const RegistryEntry& entry) {
  Mirror mirror;
  LAYERFS_ASSIGN(std::string location, text_of(table, "location"));
  LAYERFS_ASSIGN(mirror.location, location_of(std::move(location), "location"));
  if (mirror.location.empty()) return refuse(fmt::format("a mirror of '{}' has no location", entry.prefix));
  LAYERFS_ASSIGN(mirror.insecure, flag_of(table, "insecure"));
  LAYERFS_ASSIGN(std::string use, text_of(table, "pull-from-mirror"));
  if (!use.empty() && entry.mirror_by_digest_only)
    return refuse(fmt::format("'{}' has both mirror-by-digest-only and pull-from-mirror", entry.prefix));
  if (use == "digest-only")
    mirror.use = MirrorUse::kDigestOnly;
  else if (use == "tag-only")
    mirror.use = MirrorUse::kTagOnly;
  else if (!use.empty() && use != "all")
    return refuse(fmt::format("'pull-from-mirror' is '{}', not all, digest-only or tag-only", use));
  return mirror;
}

Result<RegistryEntry> registry_of(const toml::table& table) {
  RegistryEntry entry;
  LAYERFS_ASSIGN(std::string location, text_of(table, "location"));
  LAYERFS_ASSIGN(entry.location, location_of(std::move(location), "location"));
  LAYERFS_ASSIGN(std::string prefix, text_of(table, "prefix"));
  LAYERFS_ASSIGN(entry.prefix, location_of(std::move(prefix), "prefix"));
  if (entry.prefix.empty()) entry.prefix = entry.location;
  if (entry.prefix.empty()) return refuse("a registry has neither location nor prefix");
  if (entry.location.empty() && !entry.prefix.starts_with("*."))
    return refuse(fmt::format("the registry '{}' has no location", entry.prefix));
  LAYERFS_ASSIGN(entry.insecure, flag_of(table, "insecure"));
  LAYERFS_ASSIGN(entry.blocked, flag_of(table, "blocked"));
  LAYERFS_ASSIGN(entry.mirror_by_digest_only, flag_of(table, "mirror-by-digest-only"));
  const toml::node* mirrors = table.get("mirror");
  if (mirrors == nullptr) return entry;
  if (mirrors->as_array() == nullptr) return refuse("'mirror' is no array of tables");
  for (const auto& item : *mirrors->as_array()) {
    if (item.as_table() == nullptr) return refuse("'mirror' is no array of tables");
    LAYERFS_ASSIGN(Mirror mirror, mirror_of(*item.as_table(), entry));
    entry.mirrors.push_back(std::move(mirror));
  }
  return entry;
}

Result<void> read_aliases(const toml::table& table, RegistriesConf& conf) {
  for (const auto& [key, value] : table) {
    std::string name(key.str());
    if (!value.is_string()) return refuse(fmt::format("the alias '{}' is no string", name));
    const std::string& target = value.as_string()->get();
    auto parts = parse_image_reference(name);
    if (!parts || !parts->host.empty() || !parts->tag.empty() || !parts->digest.empty())
      return refuse(fmt::format("the alias '{}' is no short name", name));
    if (!target.empty()) {
      auto whole = parse_image_reference(target);
      if (!whole || whole->host.empty() || !whole->tag.empty() || !whole->digest.empty())
        return refuse(
            fmt::format("the alias '{}' means '{}', which is no whole name without a tag", name, target));
    }
    conf.aliases[name] = target;
  }
  return {};
}

Result<std::optional<RegistriesConf>> find_file(const std::string& path) {
  LAYERFS_ASSIGN(auto there, find_stat_at(AT_FDCWD, path, 0));
  if (!there) return std::nullopt;
  LAYERFS_ASSIGN(std::string text, read_file(path, kMaxFile));
  auto conf = parse_registries_conf(text);
  if (!conf) return with_context(conf.error(), "read", path);
  conf->is_present = true;
  return std::move(*conf);
}

Result<void> read_drop_ins(const std::string& dir, RegistriesConf& conf) {
  LAYERFS_ASSIGN(auto there, find_stat_at(AT_FDCWD, dir, 0));
  if (!there) return {};
  LAYERFS_ASSIGN(auto names, list_dir(dir));
  std::ranges::sort(names);
  for (const auto& name : names) {
    if (!name.ends_with(".conf")) continue;
    LAYERFS_ASSIGN(auto file, find_file(join_path(dir, name)));
    if (file) put_over(conf, std::move(*file));
  }
  return {};
}

/// The entry whose prefix is the longest that matches; nullptr: none.
const RegistryEntry* find_entry(const RegistriesConf& conf, std::string_view name) {
  const RegistryEntry* found = nullptr;
  std::size_t best = 0;
  for (const auto& entry : conf.registries) {
    if (!match_prefix(name, entry.prefix)) continue;
    if (found != nullptr && entry.prefix.size() <= best) continue;
    found = &entry;
    best = entry.prefix.size();
  }
  return found;
}

Result<Reference> rewrite(const Reference& reference, const std::string& prefix,
                          const std::string& location) {
  if (location.empty()) return reference;
  std::string name = reference.name();
  std::string text = location + name.substr(match_prefix(name, prefix).value_or(0));
  if (!reference.tag.empty()) text += ':' + reference.tag;
  if (!reference.digest.empty()) text += '@' + reference.digest;
  auto parsed = parse_reference(text, ShortNames::kRefused);
  if (!parsed) return with_context(parsed.error(), "registries.conf: rewrite", reference.str());
  return parsed;
}

Result<void> check_not_blocked(const RegistryEntry& entry, const Reference& reference) {
  if (!entry.blocked) return {};
  return invalid_error("registry", reference.name(),
                       fmt::format("blocked by the entry '{}' of registries.conf", entry.prefix));
}

}  // namespace

std::optional<std::size_t> match_prefix(std::string_view name, std::string_view prefix) {
  std::size_t end = prefix.size();
  if (prefix.starts_with("*.")) {
    std::string_view domain = prefix.substr(1);
    std::size_t at = name.find(domain);
    if (at == std::string_view::npos || name.substr(0, at).find('/') != std::string_view::npos)
      return std::nullopt;
    end = at + domain.size();
  } else if (!name.starts_with(prefix)) {
    return std::nullopt;
  }
  if (end == name.size() || name[end] == ':' || name[end] == '/' || name[end] == '@') return end;
  return std::nullopt;
}

Result<RegistriesConf> parse_registries_conf(std::string_view text) {
  toml::parse_result parsed = toml::parse(text);
  if (!parsed) {
    const auto& begin = parsed.error().source().begin;
    return refuse(
        fmt::format("line {}, column {}: {}", begin.line, begin.column, parsed.error().description()));
  }
  const toml::table& table = parsed.table();
  if (table.contains("registries"))
    return std::unexpected(Error{ErrorKind::kUnsupported,
                                 EOPNOTSUPP,
                                 {},
                                 "version 1 of its format ([registries.search]...); version 2 is wanted"});
  RegistriesConf conf;
  LAYERFS_ASSIGN(conf.search, texts_of(table, "unqualified-search-registries"));
  if (conf.search)
    for (auto& registry : *conf.search) {
      LAYERFS_ASSIGN(registry, location_of(std::move(registry), "unqualified-search-registries"));
      if (registry.empty()) return refuse("'unqualified-search-registries' has an empty registry");
    }
  LAYERFS_ASSIGN(conf.credential_helpers, texts_of(table, "credential-helpers"));
  LAYERFS_ASSIGN(std::string mode, text_of(table, "short-name-mode"));
  if (mode == "disabled")
    conf.mode = ShortNameMode::kDisabled;
  else if (mode == "permissive")
    conf.mode = ShortNameMode::kPermissive;
  else if (mode == "enforcing")
    conf.mode = ShortNameMode::kEnforcing;
  else if (!mode.empty())
    return refuse(fmt::format("'short-name-mode' is '{}', not enforcing, permissive or disabled", mode));
  if (const toml::node* aliases = table.get("aliases")) {
    if (!aliases->is_table()) return refuse("'aliases' is no table");
    LAYERFS_TRY(read_aliases(*aliases->as_table(), conf));
  }
  const toml::node* registries = table.get("registry");
  if (registries == nullptr) return conf;
  if (registries->as_array() == nullptr || registries->as_array()->size() > kMaxEntries)
    return refuse("'registry' is no array of tables");
  for (const auto& item : *registries->as_array()) {
    if (item.as_table() == nullptr) return refuse("'registry' is no array of tables");
    LAYERFS_ASSIGN(RegistryEntry entry, registry_of(*item.as_table()));
    if (std::ranges::any_of(conf.registries, [&](const auto& other) { return other.prefix == entry.prefix; }))
      return refuse(fmt::format("the registry '{}' is there twice", entry.prefix));
    conf.registries.push_back(std::move(entry));
  }
  return conf;
}

void put_over(RegistriesConf& base, RegistriesConf over) {
  base.is_present |= over.is_present;
  for (auto& entry : over.registries) {
    auto same = std::ranges::find(base.registries, entry.prefix, &RegistryEntry::prefix);
    if (same == base.registries.end())
      base.registries.push_back(std::move(entry));
    else
      *same = std::move(entry);
  }
  if (over.search) base.search = std::move(over.search);
  if (over.mode) base.mode = over.mode;
  if (over.credential_helpers) base.credential_helpers = std::move(over.credential_helpers);
  for (auto& [name, target] : over.aliases) base.aliases[name] = std::move(target);
}

Result<RegistriesConf> read_registries_conf(const ConfigPaths& config_paths) {
  RegistriesConf conf;
  std::string user_file =
      config_paths.home.empty() ? "" : join_path(config_paths.home, ".config/containers/registries.conf");
  std::string user_dir = user_file + ".d";
  bool system_drop_ins = true;
  std::optional<RegistriesConf> file;
  if (!config_paths.registries_conf.empty()) {
    LAYERFS_ASSIGN(file, find_file(config_paths.registries_conf));
    if (!file) return system_error(ENOENT, "read", config_paths.registries_conf);
  } else {
    if (!user_file.empty()) {
      LAYERFS_ASSIGN(file, find_file(user_file));
    }
    system_drop_ins = !file;  // a user's own file stands for all that the system says
    if (!file) {
      LAYERFS_ASSIGN(file, find_file(join_path(config_paths.etc, "containers/registries.conf")));
    }
  }
  if (file) conf = std::move(*file);
  if (system_drop_ins)
    LAYERFS_TRY(read_drop_ins(join_path(config_paths.etc, "containers/registries.conf.d"), conf));
  if (!user_file.empty()) LAYERFS_TRY(read_drop_ins(user_dir, conf));
  // What Podman's users chose when they were asked comes before every configured alias.
  if (!config_paths.cache_home.empty()) {
    LAYERFS_ASSIGN(auto chosen,
                   find_file(join_path(config_paths.cache_home, "containers/short-name-aliases.conf")));
    if (chosen)
      for (auto& [name, target] : chosen->aliases) conf.aliases[name] = std::move(target);
  }
  return conf;
}

Result<Endpoint> find_write_endpoint(const RegistriesConf& conf, const Reference& reference) {
  const RegistryEntry* entry = find_entry(conf, reference.name());
  if (entry == nullptr) return Endpoint{reference, false, false};
  LAYERFS_TRY(check_not_blocked(*entry, reference));
  return Endpoint{reference, entry->insecure, false};
}

Result<std::vector<Endpoint>> find_endpoints(const RegistriesConf& conf, const Reference& reference) {
  const RegistryEntry* entry = find_entry(conf, reference.name());
  if (entry == nullptr) return std::vector<Endpoint>{{reference, false, false}};
  LAYERFS_TRY(check_not_blocked(*entry, reference));
  std::vector<Endpoint> endpoints;
  bool by_digest = !reference.digest.empty();
  for (const auto& mirror : entry->mirrors) {
    if (entry->mirror_by_digest_only && !by_digest) continue;
    if (mirror.use == MirrorUse::kDigestOnly && !by_digest) continue;
    if (mirror.use == MirrorUse::kTagOnly && by_digest) continue;
    LAYERFS_ASSIGN(Reference there, rewrite(reference, entry->prefix, mirror.location));
    endpoints.push_back({std::move(there), mirror.insecure, true});
  }
  LAYERFS_ASSIGN(Reference there, rewrite(reference, entry->prefix, entry->location));
  endpoints.push_back({std::move(there), entry->insecure, false});
  return endpoints;
}

Result<ResolvedName> resolve_name(const RegistriesConf& conf, std::string_view name) {
  LAYERFS_ASSIGN(ImageReference parts, parse_image_reference(name));
  ResolvedName resolved;
  auto add = [&](const std::string& whole) -> Result<void> {
    std::string text = whole;
    if (!parts.tag.empty()) text += ':' + parts.tag;
    if (!parts.digest.empty()) text += '@' + parts.digest;
    LAYERFS_ASSIGN(Reference reference, parse_reference(text, ShortNames::kRefused));
    resolved.candidates.push_back(std::move(reference));
    return {};
  };
  if (!parts.host.empty()) {
    LAYERFS_TRY(add(parts.host + '/' + parts.repository));
    return resolved;
  }
  ShortNameMode mode = conf.mode.value_or(ShortNameMode::kPermissive);
  auto alias = conf.aliases.find(parts.repository);
  if (mode != ShortNameMode::kDisabled && alias != conf.aliases.end() && !alias->second.empty()) {
    LAYERFS_TRY(add(alias->second));
    return resolved;
  }
  if (!conf.is_present) {
    LAYERFS_TRY(add("docker.io/" + parts.repository));
    resolved.note = "there is no registries.conf: short names are docker.io's";
    return resolved;
  }
  if (!conf.search || conf.search->empty())
    return invalid_error("short name", name,
                         "no alias in registries.conf, and no unqualified-search-registries there: write the "
                         "whole name, as docker.io/library/NAME");
  if (mode == ShortNameMode::kEnforcing && conf.search->size() > 1)
    return invalid_error(
        "short name", name,
        "several registries may be meant, and short-name-mode is enforcing: write the whole name");
  for (const auto& registry : *conf.search) LAYERFS_TRY(add(registry + '/' + parts.repository));
  return resolved;
}

}  // namespace layerfs::registry
