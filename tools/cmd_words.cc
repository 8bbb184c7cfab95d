// SPDX-License-Identifier: Apache-2.0
#include "tools/cmd_words.h"

#include <algorithm>

namespace layerfs::tools {

namespace {

/// Optimal string alignment distance.
std::size_t distance(std::string_view from, std::string_view to) {
  std::vector<std::vector<std::size_t>> cost(from.size() + 1, std::vector<std::size_t>(to.size() + 1));
  for (std::size_t i = 0; i <= from.size(); ++i) {
    for (std::size_t j = 0; j <= to.size(); ++j) {
      if (i == 0 || j == 0) {
        cost[i][j] = i + j;
        continue;
      }
      bool same = from[i - 1] == to[j - 1];
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, cost[i - 1][j - 1] + (same ? 0 : 1)});
      if (i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1])
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  }
  return cost[from.size()][to.size()];
}

}  // namespace

std::optional<std::string> find_nearest(std::string_view word, const std::vector<std::string>& known) {
  constexpr std::size_t kLongest = 64;
  if (word.size() > kLongest) return std::nullopt;
  std::optional<std::string> nearest;
  std::size_t best = 1 + word.size() / 3;  // of a short word few letters may differ
  for (const auto& candidate : known) {
    std::size_t here = distance(word, candidate);
    if (here > best || (here == best && nearest)) continue;
    best = here;
    nearest = candidate;
  }
  return nearest;
}

}  // namespace layerfs::tools
