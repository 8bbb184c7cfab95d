// SPDX-License-Identifier: Apache-2.0
// Capability sets as bit masks, from the names of capabilities(7). Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/result.h"
#include "runtime/spec/container_spec.h"

namespace layerfs::plan {

/// Bit n is capability n of linux/capability.h.
using CapabilityMask = std::uint64_t;

struct CapabilitySets {
  CapabilityMask bounding = 0;
  CapabilityMask effective = 0;
  CapabilityMask permitted = 0;
  CapabilityMask inheritable = 0;
  CapabilityMask ambient = 0;
  bool operator==(const CapabilitySets&) const = default;
};

/// "CAP_CHOWN", "chown" and "cap_chown" are the same one.
std::optional<unsigned> find_capability(std::string_view name);
/// "CAP_CHOWN"; "CAP_63" for a number without a name.
std::string capability_name(unsigned number);
/// Errors: kInvalid naming `field` and the capability.
Result<CapabilityMask> parse_capabilities(const std::vector<std::string>& names, std::string_view field);
/// The five sets of process.capabilities. A name that is not known, and a capability that the running kernel
/// lacks (above `last_known`), are left out, as the specification asks.
CapabilitySets plan_capabilities(const spec::Capabilities& capabilities, unsigned last_known);
/// The names in any of the sets that nobody knows, each once.
std::vector<std::string> unknown_capabilities(const spec::Capabilities& capabilities);

/// What a container has by default, as Docker: chown, dac_override, fsetid, fowner, mknod, net_raw, setgid,
/// setuid, setfcap, setpcap, net_bind_service, sys_chroot, kill, audit_write.
const std::vector<std::string>& default_capabilities();
/// The default set with names added and dropped; "ALL" stands for every one. Errors: kInvalid.
Result<std::vector<std::string>> adjust_capabilities(const std::vector<std::string>& add,
                                                     const std::vector<std::string>& drop);

}  // namespace layerfs::plan
