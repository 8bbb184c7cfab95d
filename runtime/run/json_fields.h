// SPDX-License-Identifier: Apache-2.0
// Fields of a JSON object that somebody may have damaged: what is not of the wanted type is as if it were not
// there. The library's own value() throws where the type is another.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace layerfs::run {

inline std::int64_t integer_field(const nlohmann::json& object, const char* name, std::int64_t otherwise) {
  if (!object.is_object()) return otherwise;
  auto found = object.find(name);
  return found != object.end() && found->is_number_integer() ? found->get<std::int64_t>() : otherwise;
}

inline std::string string_field(const nlohmann::json& object, const char* name) {
  if (!object.is_object()) return {};
  auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

inline bool boolean_field(const nlohmann::json& object, const char* name) {
  if (!object.is_object()) return false;
  auto found = object.find(name);
  return found != object.end() && found->is_boolean() && found->get<bool>();
}

}  // namespace layerfs::run
