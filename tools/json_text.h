// SPDX-License-Identifier: Apache-2.0
// JSON as the commands print it, whatever bytes its strings hold: what is not UTF-8 (a path may be anything)
// becomes U+FFFD, where dump() alone would throw.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace layerfs::tools {

/// Over several lines, indented by four.
template <class Json = nlohmann::ordered_json>
std::string json_text(const Json& json) {
  return json.dump(4, ' ', false, Json::error_handler_t::replace) + '\n';
}
template <class Json = nlohmann::ordered_json>
std::string json_line(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n';
}

}  // namespace layerfs::tools
