// SPDX-License-Identifier: Apache-2.0
// policy.json(5): whether an image of a registry may be taken.
//
// (1) Of the scopes that a name lies in the longest counts, and all that it requires. `reject` refuses, and so does by
//     its name what cannot be checked here (signatures): nothing is passed over.
// (2) Parsing is total; a file with a type of requirement that nobody knows is refused as a whole.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/result.h"
#include "fs/registry/config_paths.h"
#include "fs/registry/reference.h"

namespace layerfs::registry {

/// Types of requirements, one after another, as they are written: "reject", "insecureAcceptAnything", "signedBy"...
using Requirements = std::vector<std::string>;

struct Policy {
  Requirements fallback;  ///< "default"
  std::map<std::string, Requirements>
      scopes;  ///< of the transport `docker`: "host/ns", "*.domain", "" for all
};

Result<Policy> parse_policy(std::string_view text);
/// The user's policy.json, else the machine's; without one everything is accepted. Errors: those of parsing, naming
/// the file.
Result<Policy> read_policy(const ConfigPaths& config_paths);
/// Errors: EACCES, saying which scope of the policy refuses it and why.
Result<void> check_policy(const Policy& policy, const Reference& reference);

}  // namespace layerfs::registry
