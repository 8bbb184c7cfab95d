// SPDX-License-Identifier: Apache-2.0
// Words that users type, compared with those that they may have meant. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace layerfs::tools {

/// The known word that is fewest changes (a letter added, left out, replaced, or two swapped) away from
/// `word`; nullopt where none is near enough to have been meant.
std::optional<std::string> find_nearest(std::string_view word, const std::vector<std::string>& known);

}  // namespace layerfs::tools
