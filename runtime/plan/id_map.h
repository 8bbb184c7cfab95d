// SPDX-License-Identifier: Apache-2.0
// Id maps of a user namespace (user_namespaces(7)) and the ranges of /etc/subuid (subuid(5)). Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/result.h"
#include "runtime/spec/container_spec.h"

namespace layerfs::plan {

struct SubIdRange {
  std::uint32_t first = 0;
  std::uint32_t count = 0;
  bool operator==(const SubIdRange&) const = default;
};

/// The lines of /etc/subuid or /etc/subgid that belong to `name` or to the number `id`. Other lines, comments
/// and lines of a wrong form are skipped, as newuidmap(1) does.
std::vector<SubIdRange> parse_sub_ids(std::string_view text, std::string_view name, std::uint32_t id);

/// Container 0 is `host_id`, and 1.. are the ranges one after another.
std::vector<spec::IdMapping> rootless_map(std::uint32_t host_id, const std::vector<SubIdRange>& ranges);

enum class MapWriter : std::uint8_t {
  kNone,    ///< no new user namespace
  kDirect,  ///< write /proc/PID/uid_map
  kHelper,  ///< newuidmap(1) and newgidmap(1)
};
struct IdMapPlan {
  MapWriter writer = MapWriter::kNone;
  std::vector<spec::IdMapping> uids;
  std::vector<spec::IdMapping> gids;
  bool deny_setgroups = false;  ///< what an unprivileged writer of gid_map owes the kernel
};

/// `privileged`: the caller has CAP_SETUID and CAP_SETGID. One id that is the caller's own needs no helper.
IdMapPlan plan_id_maps(const std::vector<spec::IdMapping>& uids, const std::vector<spec::IdMapping>& gids,
                       bool privileged, std::uint32_t caller_uid, std::uint32_t caller_gid);

/// "0 1000 1\n1 100000 65536\n".
std::string format_map(const std::vector<spec::IdMapping>& map);
/// {"0", "1000", "1", ...}: the arguments of newuidmap(1).
std::vector<std::string> helper_arguments(const std::vector<spec::IdMapping>& map);
/// What `container_id` is on the host; nullopt where it is not in the map.
std::optional<std::uint32_t> find_host_id(const std::vector<spec::IdMapping>& map,
                                          std::uint32_t container_id);
/// For messages: "0", "0 to 65536", "0 to 9 and 20 to 29".
std::string describe_ids(const std::vector<spec::IdMapping>& map);
/// `container_id` is in the map.
bool maps_id(const std::vector<spec::IdMapping>& map, std::uint32_t container_id);

}  // namespace layerfs::plan
