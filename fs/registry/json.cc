// SPDX-License-Identifier: Apache-2.0
#include "fs/registry/json.h"

#include <fmt/format.h>

namespace layerfs::registry {

Result<Json> parse_json(std::string_view text, Json::value_t type) {
  constexpr int kMaxDepth = 64;
  bool too_deep = false;
  auto watch = [&](int depth, Json::parse_event_t, Json&) {
    too_deep = too_deep || depth > kMaxDepth;
    return !too_deep;  // the rest is not kept
  };
  Json json = Json::parse(text, watch, /*allow_exceptions=*/false);
  if (too_deep) return refuse(fmt::format("JSON nested more than {} deep", kMaxDepth));
  if (json.is_discarded()) return refuse("not JSON");
  if (json.type() != type)
    return refuse(type == Json::value_t::object ? "not a JSON object" : "not a JSON array");
  return json;
}

const Json* find_member(const Json& object, const char* key) {
  auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::string text_or_none(const Json& object, const char* key) {
  const Json* member = find_member(object, key);
  return member != nullptr && member->is_string() ? member->get<std::string>() : std::string();
}

}  // namespace layerfs::registry
