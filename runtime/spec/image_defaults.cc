// SPDX-License-Identifier: Apache-2.0
#include "runtime/spec/image_defaults.h"

#include <nlohmann/json.hpp>

#include "runtime/spec/json_reader.h"

namespace layerfs::spec {

Result<ImageDefaults> parse_image_defaults(std::string_view text) {
  auto document = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded() || !document.is_object())
    return invalid_error("parse image config", "", "not a JSON object");
  std::optional<Error> error;
  JsonReader root(document, "", error);
  JsonReader config = root.object("config");
  ImageDefaults result;
  result.user = config.string("User");
  result.working_dir = config.string("WorkingDir");
  result.env = config.strings("Env");
  result.entrypoint = config.strings("Entrypoint");
  result.cmd = config.strings("Cmd");
  result.stop_signal = config.string("StopSignal");
  if (auto found = document.find("config"); found != document.end() && found->is_object())
    if (auto volumes = found->find("Volumes"); volumes != found->end() && volumes->is_object())
      for (const auto& item : volumes->items()) result.volumes.push_back(item.key());
  if (error) return with_context(*error, "image config");
  return result;
}

}  // namespace layerfs::spec
