// SPDX-License-Identifier: Apache-2.0
// Fuzz target: bytes as a WWW-Authenticate header. What is read is bounded, and each scheme is a token.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "fs/registry/challenge.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace layerfs::registry;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  auto challenges = parse_challenges(text);
  if (challenges.size() > kMaxChallenges) std::abort();
  for (const auto& challenge : challenges) {
    if (challenge.scheme.empty() || challenge.scheme.find_first_of(" \t,=\"") != std::string::npos)
      std::abort();
    if (challenge.parameters.size() > kMaxChallenges) std::abort();
    for (const auto& [name, value] : challenge.parameters)
      if (name.empty() || value.size() > size || challenge.find(name) != value) std::abort();
  }
  return 0;
}
