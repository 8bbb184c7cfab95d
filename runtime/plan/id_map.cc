// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/id_map.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>

namespace layerfs::plan {

namespace {

std::optional<std::uint32_t> parse_id(std::string_view text) {
  std::uint32_t value = 0;
  auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string_view take_field(std::string_view& rest, char separator) {
  std::size_t at = rest.find(separator);
  std::string_view field = rest.substr(0, at);
  rest = at == std::string_view::npos ? std::string_view{} : rest.substr(at + 1);
  return field;
}

}  // namespace

std::vector<SubIdRange> parse_sub_ids(std::string_view text, std::string_view name, std::uint32_t id) {
  std::vector<SubIdRange> ranges;
  std::string number = std::to_string(id);
  while (!text.empty()) {
    std::string_view line = take_field(text, '\n');
    std::string_view owner = take_field(line, ':');
    if (owner.empty() || (owner != name && owner != number)) continue;
    auto first = parse_id(take_field(line, ':'));
    auto count = parse_id(line);
    if (!first || !count || *count == 0 || *first == 0) continue;
    if (*count > std::numeric_limits<std::uint32_t>::max() - *first) continue;
    SubIdRange range{*first, *count};
    if (std::ranges::find(ranges, range) == ranges.end()) ranges.push_back(range);
  }
  return ranges;
}

std::vector<spec::IdMapping> rootless_map(std::uint32_t host_id, const std::vector<SubIdRange>& ranges) {
  std::vector<spec::IdMapping> map{{0, host_id, 1}};
  std::uint32_t next = 1;
  for (const auto& range : ranges) {
    if (map.size() == 340) break;  // the kernel's limit of lines (user_namespaces(7))
    // The kernel refuses overlapping host ranges.
    bool overlaps = std::ranges::any_of(map, [&](const spec::IdMapping& have) {
      return range.first < have.host_id + std::uint64_t{have.size} &&
             have.host_id < range.first + std::uint64_t{range.count};
    });
    if (overlaps || range.count > std::numeric_limits<std::uint32_t>::max() - next) continue;
    map.push_back({next, range.first, range.count});
    next += range.count;
  }
  return map;
}

IdMapPlan plan_id_maps(const std::vector<spec::IdMapping>& uids, const std::vector<spec::IdMapping>& gids,
                       bool privileged, std::uint32_t caller_uid, std::uint32_t caller_gid) {
  IdMapPlan plan;
  if (uids.empty() && gids.empty()) return plan;
  plan.uids = uids;
  plan.gids = gids;
  bool own_ids_only = uids.size() == 1 && uids[0].size == 1 && uids[0].host_id == caller_uid &&
                      gids.size() == 1 && gids[0].size == 1 && gids[0].host_id == caller_gid;
  plan.writer = privileged || own_ids_only ? MapWriter::kDirect : MapWriter::kHelper;
  plan.deny_setgroups = plan.writer == MapWriter::kDirect && !privileged;
  return plan;
}

std::string format_map(const std::vector<spec::IdMapping>& map) {
  std::string text;
  for (const auto& line : map)
    text += std::to_string(line.container_id) + ' ' + std::to_string(line.host_id) + ' ' +
            std::to_string(line.size) + '\n';
  return text;
}

std::vector<std::string> helper_arguments(const std::vector<spec::IdMapping>& map) {
  std::vector<std::string> list;
  for (const auto& line : map) {
    list.push_back(std::to_string(line.container_id));
    list.push_back(std::to_string(line.host_id));
    list.push_back(std::to_string(line.size));
  }
  return list;
}

std::optional<std::uint32_t> find_host_id(const std::vector<spec::IdMapping>& map,
                                          std::uint32_t container_id) {
  for (const auto& entry : map)
    if (container_id >= entry.container_id && container_id - entry.container_id < entry.size)
      return entry.host_id + (container_id - entry.container_id);
  return std::nullopt;
}

std::string describe_ids(const std::vector<spec::IdMapping>& map) {
  std::vector<spec::IdMapping> ranges = map;
  std::erase_if(ranges, [](const spec::IdMapping& range) { return range.size == 0; });
  std::ranges::sort(ranges, {}, &spec::IdMapping::container_id);
  std::string text;
  for (std::size_t i = 0; i < ranges.size();) {
    std::uint64_t first = ranges[i].container_id;
    std::uint64_t end = first;
    for (; i < ranges.size() && ranges[i].container_id == end; ++i) end += ranges[i].size;
    text += (text.empty() ? "" : " and ") + std::to_string(first);
    if (end - first > 1) text += " to " + std::to_string(end - 1);
  }
  return text;
}

bool maps_id(const std::vector<spec::IdMapping>& map, std::uint32_t container_id) {
  return find_host_id(map, container_id).has_value();
}

}  // namespace layerfs::plan
