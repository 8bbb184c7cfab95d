// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/resctrl_plan.h"

#include <algorithm>
#include <map>

namespace layerfs::plan {

namespace {

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r'))
    text.remove_suffix(1);
  return text;
}

/// "00F0" and "f0" are the same mask.
std::string normal_number(std::string_view text) {
  text = trim(text);
  while (text.size() > 1 && text.front() == '0') text.remove_prefix(1);
  std::string number(text);
  for (char& c : number)
    if (c >= 'A' && c <= 'F') c = static_cast<char>(c - 'A' + 'a');
  return number;
}

/// Values by resource and domain: "L3", "0" -> "7f0".
using Domains = std::map<std::pair<std::string, std::string>, std::string>;

void read_line(std::string_view line, Domains& to) {
  std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return;
  std::string resource(trim(line.substr(0, colon)));
  std::string_view rest = line.substr(colon + 1);
  while (!rest.empty()) {
    std::string_view item = rest.substr(0, rest.find(';'));
    rest.remove_prefix(std::min(rest.size(), item.size() + 1));
    std::size_t equals = item.find('=');
    if (equals == std::string_view::npos) continue;
    to[{resource, normal_number(item.substr(0, equals))}] = normal_number(item.substr(equals + 1));
  }
}

}  // namespace

std::string find_resctrl(const std::vector<MountEntry>& mounts) {
  auto found = std::ranges::find(mounts, "resctrl", &MountEntry::type);
  return found == mounts.end() ? std::string() : found->path;
}

Result<ResctrlPlan> plan_resctrl(const spec::IntelRdt& rdt, const std::string& mount_point,
                                 const std::string& container_id) {
  if (mount_point.empty())
    return unsupported_error("field", "linux.intelRdt", "no resctrl file system is mounted on the host");
  ResctrlPlan plan;
  plan.mount_point = mount_point;
  plan.is_containers = rdt.clos_id.empty();
  std::string name = plan.is_containers ? container_id : rdt.clos_id;
  plan.directory = name == "/" ? mount_point : mount_point + '/' + name;
  // The order is the specification's, and so is what is compared.
  for (const auto* line : {&rdt.l3_cache_schema, &rdt.memory_bandwidth_schema})
    if (!line->empty()) plan.compared.push_back(*line);
  for (const auto& line : plan.compared) plan.schemata += line + '\n';
  for (const auto& line : rdt.schemata) plan.schemata += line + '\n';
  plan.must_exist = name == "/" || (!plan.is_containers && plan.schemata.empty());
  if (rdt.enable_monitoring) plan.monitor = plan.directory + "/mon_groups/" + container_id;
  return plan;
}

bool schemata_match(const std::vector<std::string>& lines, std::string_view schemata) {
  Domains now;
  while (!schemata.empty()) {
    std::string_view line = schemata.substr(0, schemata.find('\n'));
    schemata.remove_prefix(std::min(schemata.size(), line.size() + 1));
    read_line(line, now);
  }
  Domains wanted;
  for (const auto& line : lines) read_line(line, wanted);
  return std::ranges::all_of(wanted, [&](const auto& entry) {
    auto found = now.find(entry.first);
    return found != now.end() && found->second == entry.second;
  });
}

}  // namespace layerfs::plan
