// SPDX-License-Identifier: Apache-2.0
// Fuzz target: bytes as policy.json. What has any requirement but insecureAcceptAnything everywhere accepts nothing.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "fs/registry/policy.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace layerfs::registry;
  auto policy = parse_policy({reinterpret_cast<const char*>(data), size});
  if (!policy) return 0;
  auto refuses = [](const Requirements& requirements) {
    return std::ranges::any_of(requirements,
                               [](const auto& type) { return type != "insecureAcceptAnything"; });
  };
  bool all = refuses(policy->fallback);
  bool any = all;
  for (const auto& [scope, requirements] : policy->scopes) {
    all = all && refuses(requirements);
    any = any || refuses(requirements);
  }
  auto checked = check_policy(*policy, {"host.test:5000", "a/b", "1", ""});
  if ((all && checked) || (!any && !checked)) std::abort();
  return 0;
}
