// SPDX-License-Identifier: Apache-2.0
// Challenges of a WWW-Authenticate header (RFC 9110, section 11.6.1). Pure; any thread.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace layerfs::registry {

struct Challenge {
  std::string scheme;  ///< lower case
  std::vector<std::pair<std::string, std::string>>
      parameters;  ///< names in lower case, the first of a name counts
  /// Empty where it is absent.
  std::string_view find(std::string_view name) const;
  bool operator==(const Challenge&) const = default;
};

/// No header has more challenges, and no challenge more parameters; what follows is not read.
inline constexpr std::size_t kMaxChallenges = 32;

/// The challenges of one header's value, in order. Parameters may be quoted or bare; what cannot be read ends the
/// list. Total: whatever the bytes, a list.
std::vector<Challenge> parse_challenges(std::string_view value);

}  // namespace layerfs::registry
