// SPDX-License-Identifier: Apache-2.0
// A container's group as systemd makes it: a transient scope in a slice, with the limits as properties of
// that unit. Pure. (systemd.resource-control(5); the unit's life is runtime/container/systemd_scope.h's.)
//
// (1) What systemd manages is said to it, in its own words: it writes the files of a unit's controllers anew
//     where it sees cause to, and what it was not told is not what it writes.
// (2) What has no property is left to the files: they are delegated, and systemd never writes them.
// (3) Rules of devices are ours alone: DeviceAllow= cannot forbid one device of many, and the program of
//     device_program.h stays attached beside whatever systemd attaches.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "fs/base/result.h"
#include "runtime/plan/cgroup_plan.h"

namespace layerfs::plan {

/// By the types of D-Bus: b, i, u, x, t, s, as, ay.
using UnitValue = std::variant<bool, std::int32_t, std::uint32_t, std::int64_t, std::uint64_t, std::string,
                               std::vector<std::string>, std::vector<std::uint8_t>>;
struct UnitProperty {
  std::string name;
  UnitValue value;
  bool operator==(const UnitProperty&) const = default;
};

struct ScopePlan {
  std::string unit;  ///< "libpod-ID.scope"
  std::vector<UnitProperty> properties;
};

struct ScopeName {
  std::string slice;
  std::string unit;
  bool operator==(const ScopeName&) const = default;
};

/// Of linux.cgroupsPath "SLICE:PREFIX:NAME": PREFIX-NAME.scope in SLICE. An empty SLICE is `default_slice`;
/// an empty path is `default_name`.scope there. Errors: kInvalid naming the field.
Result<ScopeName> parse_scope_name(std::string_view cgroups_path, std::string_view default_name,
                                   std::string_view default_slice);
/// "a-b.slice" -> "/a.slice/a-b.slice", where systemd has it below its own group; "-.slice" -> "".
/// Errors: kInvalid where it is no name of a slice.
Result<std::string> expand_slice(std::string_view slice);

/// The properties that say what `writes` (v2) say, in systemd's units; those without one are left out.
std::vector<UnitProperty> unit_properties(const std::vector<CgroupWrite>& writes);

/// The annotations "org.systemd.property.NAME" with values in GVariant's text format: true, 'text', 5
/// (int32), int64 5, uint32 5, uint64 5, ['a', 'b']. NAME that ends in "Sec" is given in seconds and set as
/// NAME in microseconds. Errors: kInvalid, kUnsupported naming the annotation.
Result<std::vector<UnitProperty>> annotated_properties(const std::map<std::string, std::string>& annotations);

/// The scope of a container: `limits`, then the annotations, which may say otherwise.
Result<ScopePlan> plan_scope(const ScopeName& name, const std::vector<CgroupWrite>& limits,
                             const std::map<std::string, std::string>& annotations);

}  // namespace layerfs::plan
