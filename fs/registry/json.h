// SPDX-License-Identifier: Apache-2.0
// JSON that others wrote: parsed within a depth, members by name. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "fs/base/refuse.h"
#include "fs/base/result.h"

namespace layerfs::registry {

using Json = nlohmann::json;

/// Errors: kInvalid where it is no JSON object, or nested more than 64 deep.
Result<Json> parse_object(std::string_view text);
/// The member, or nullptr where it is absent or null.
const Json* find_member(const Json& object, const char* key);
/// "" where it is absent, or no string.
std::string text_or_none(const Json& object, const char* key);

}  // namespace layerfs::registry
