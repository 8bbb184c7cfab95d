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

/// A document of that type, an object or an array. Errors: kInvalid where it is none, or nested more than 64 deep:
/// deeper than any document is, and each level is a value that is kept.
Result<Json> parse_json(std::string_view text, Json::value_t type = Json::value_t::object);
/// The member, or nullptr where it is absent or null (Go's encoders write null for empty).
const Json* find_member(const Json& object, const char* key);
/// "" where it is absent, or no string: for what nothing depends on.
std::string text_or_none(const Json& object, const char* key);

}  // namespace layerfs::registry
