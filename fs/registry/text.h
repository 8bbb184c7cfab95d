// SPDX-License-Identifier: Apache-2.0
// Text of protocols. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

namespace layerfs::registry {

/// ASCII letters in lower case; other bytes as they are.
std::string to_lower(std::string_view text);

}  // namespace layerfs::registry
