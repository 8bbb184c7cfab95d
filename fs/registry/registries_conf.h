// SPDX-License-Identifier: Apache-2.0
// registries.conf(5), version 2: which registries a name means, and where those are really asked.
//
// (1) Parsing is total: whatever the bytes, a value or kInvalid with the place in the file.
// (2) A registry that is blocked is never asked, under whatever name its prefix was reached.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/result.h"
#include "fs/registry/config_paths.h"
#include "fs/registry/reference.h"

namespace layerfs::registry {

enum class MirrorUse : std::uint8_t { kAll, kDigestOnly, kTagOnly };
enum class ShortNameMode : std::uint8_t { kDisabled, kPermissive, kEnforcing };

struct Mirror {
  std::string location;
  bool insecure = false;
  MirrorUse use = MirrorUse::kAll;
  bool operator==(const Mirror&) const = default;
};

struct RegistryEntry {
  std::string prefix;    ///< "host", "host/ns", "host/ns/repo", "*.domain"
  std::string location;  ///< empty: the name itself (with a wildcard prefix only)
  bool insecure = false;
  bool blocked = false;
  bool mirror_by_digest_only = false;
  std::vector<Mirror> mirrors;
  bool operator==(const RegistryEntry&) const = default;
};

struct RegistriesConf {
  std::vector<RegistryEntry> registries;
  std::optional<std::vector<std::string>> search;  ///< unqualified-search-registries
  std::optional<ShortNameMode> mode;
  std::map<std::string, std::string> aliases;  ///< an empty value takes an alias away
  std::optional<std::vector<std::string>> credential_helpers;
  bool is_present = false;  ///< some file was there
};

/// One file. Errors: kInvalid; kUnsupported for version 1 ([registries.search]...).
Result<RegistriesConf> parse_registries_conf(std::string_view text);
/// What a drop-in says, put over `base`: registries by prefix, aliases by name, the rest where it is set.
void put_over(RegistriesConf& base, RegistriesConf over);

/// The files of `config_paths`: one registries.conf and the drop-ins over it, in the order of containers/image. Errors:
/// those of parsing, naming the file; EACCES...
Result<RegistriesConf> read_registries_conf(const ConfigPaths& config_paths);

/// Where a manifest may be asked for, in order.
struct Endpoint {
  Reference reference;  ///< rewritten to the endpoint's location
  bool insecure = false;
  bool is_mirror = false;
};
/// Mirrors first, then the registry itself. Errors: kInvalid where it is blocked, or what comes of a rewriting is
/// no reference.
Result<std::vector<Endpoint>> find_endpoints(const RegistriesConf& conf, const Reference& reference);
/// Where something is put, or logged in to: the very registry that was named. Locations and mirrors are for pulling
/// (containers-registries.conf(5), "Remapping and mirroring registries"). Errors: kInvalid where it is blocked.
Result<Endpoint> find_write_endpoint(const RegistriesConf& conf, const Reference& reference);

/// What a name may mean, in order of trying. `note`: what a user should be told about how it was resolved, or "".
struct ResolvedName {
  std::vector<Reference> candidates;
  std::string note;
};
/// A whole name is itself. A short one: an alias, else each unqualified-search registry; docker.io where nothing is
/// configured. Errors: kInvalid where several registries are there and short names are enforced, or none.
Result<ResolvedName> resolve_name(const RegistriesConf& conf, std::string_view name);

/// How long the part of `name` is that `prefix` (of a registry entry) matches; nullopt: none.
std::optional<std::size_t> match_prefix(std::string_view name, std::string_view prefix);

}  // namespace layerfs::registry
