// SPDX-License-Identifier: Apache-2.0
#include "tools/cmd_image_view.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <map>
#include <optional>

namespace layerfs::tools {

namespace {

Result<Json> read_json_blob(store::Store& store, const Digest& digest) {
  LAYERFS_ASSIGN(std::string bytes, store.get_blob(digest));
  Json json = Json::parse(bytes, nullptr, false);
  if (!json.is_object()) return corrupt_error("read blob", digest.str(), "it is no JSON object");
  return json;
}

const Json& member(const Json& object, const char* key) {
  static const Json kNothing;
  if (!object.is_object()) return kNothing;
  auto found = object.find(key);
  return found == object.end() ? kNothing : *found;
}

bool is_true(const Json& object, const char* key) {
  const Json& value = member(object, key);
  return value.is_boolean() && value.get<bool>();
}

/// "registry/name@sha256:..." of each name, as Podman's RepoDigests.
Json repo_digests(const ImageView& view) {
  Json digests = Json::array();
  for (const auto& name : view.names) {
    std::string digest = split_reference(name).first + '@' + view.record.manifest.str();
    if (std::find(digests.begin(), digests.end(), digest) == digests.end()) digests.push_back(digest);
  }
  return digests;
}

}  // namespace

std::string text_of(const Json& object, const char* key) {
  const Json& value = member(object, key);
  return value.is_string() ? value.get<std::string>() : std::string();
}

std::optional<std::int64_t> parse_time(std::string_view text) {
  std::tm time{};
  int consumed = 0;
  std::string copy(text);
  if (std::sscanf(copy.c_str(), "%4d-%2d-%2d%*1[Tt ]%2d:%2d:%2d%n", &time.tm_year, &time.tm_mon,
                  &time.tm_mday, &time.tm_hour, &time.tm_min, &time.tm_sec, &consumed) != 6 ||
      consumed == 0)
    return std::nullopt;
  time.tm_year -= 1900;
  time.tm_mon -= 1;
  std::string_view rest = std::string_view(copy).substr(static_cast<std::size_t>(consumed));
  if (rest.starts_with('.'))
    rest.remove_prefix(std::min(rest.size(), rest.find_first_not_of("0123456789", 1)));
  std::int64_t seconds = ::timegm(&time);
  if (rest == "Z" || rest == "z") return seconds;
  int hours = 0;
  int minutes = 0;
  char sign = 0;
  if (std::sscanf(std::string(rest).c_str(), "%c%2d:%2d", &sign, &hours, &minutes) != 3 ||
      (sign != '+' && sign != '-'))
    return std::nullopt;
  std::int64_t offset = hours * 3600 + minutes * 60;
  return sign == '+' ? seconds - offset : seconds + offset;
}

std::string format_time(std::int64_t seconds) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(static_cast<std::time_t>(seconds)));
}

std::pair<std::string, std::string> split_reference(const std::string& reference) {
  if (reference.empty()) return {"<none>", "<none>"};
  std::string name = reference.substr(0, reference.find('@'));
  std::size_t colon = name.rfind(':');
  if (colon == std::string::npos || name.find('/', colon) != std::string::npos) return {name, "<none>"};
  return {name.substr(0, colon), name.substr(colon + 1)};
}

Result<ImageView> view_image(store::Store& store, const store::ImageRecord& record) {
  ImageView view;
  view.record = record;
  LAYERFS_ASSIGN(view.config, read_json_blob(store, record.config));
  LAYERFS_ASSIGN(view.manifest, read_json_blob(store, record.manifest));
  view.created = parse_time(text_of(view.config, "created")).value_or(record.imported_at);
  for (const auto& layer : record.layers) {
    LAYERFS_ASSIGN(auto stored, store.get_layer(layer.diff_id));
    view.layer_sizes.push_back(stored->info().tar_bytes);
    view.size += view.layer_sizes.back();
  }
  LAYERFS_ASSIGN(auto all, store.list_images());
  for (const auto& image : all)
    if (image.manifest == record.manifest && !image.reference.empty()) view.names.push_back(image.reference);
  return view;
}

Result<std::vector<ImageView>> view_images(store::Store& store) {
  LAYERFS_ASSIGN(auto records, store.list_images());
  std::vector<ImageView> views;
  std::map<Digest, bool> seen;
  for (const auto& record : records) {
    if (seen[record.manifest]) continue;
    seen[record.manifest] = true;
    auto view = view_image(store, record);
    if (!view)
      return with_context(view.error(), "image",
                          record.reference.empty() ? record.config.hex() : record.reference);
    views.push_back(std::move(*view));
  }
  std::stable_sort(views.begin(), views.end(),
                   [](const auto& a, const auto& b) { return a.created > b.created; });
  return views;
}

Json inspect_image(const ImageView& view) {
  const Json& config = view.config;
  Json layers = Json::array();
  for (const auto& layer : view.record.layers) layers.push_back(layer.diff_id.str());
  const Json& settings = member(config, "config");
  const Json& labels = member(settings, "Labels");
  const Json& annotations = member(view.manifest, "annotations");
  Json history = member(config, "history");
  Json out;
  out["Id"] = view.record.config.hex();
  out["Digest"] = view.record.manifest.str();
  out["RepoTags"] = view.names;
  out["RepoDigests"] = repo_digests(view);
  out["Parent"] = "";
  out["Comment"] = text_of(config, "comment");
  out["Created"] = config.contains("created") ? text_of(config, "created") : format_time(view.created);
  out["Config"] = settings.is_object() ? settings : Json::object();
  out["Version"] = "";
  out["Author"] = text_of(config, "author");
  out["Architecture"] = text_of(config, "architecture");
  if (config.contains("variant")) out["Variant"] = text_of(config, "variant");
  out["Os"] = text_of(config, "os");
  out["Size"] = view.size;
  out["VirtualSize"] = view.size;
  out["GraphDriver"] = {{"Name", "layerfs"}, {"Data", Json::object()}};
  out["RootFS"] = {{"Type", "layers"}, {"Layers", layers}};
  out["Labels"] = labels.is_object() ? labels : Json();
  out["Annotations"] = annotations.is_object() ? annotations : Json::object();
  out["ManifestType"] = text_of(view.manifest, "mediaType");
  out["User"] = text_of(settings, "User");
  out["History"] = history.is_array() ? history : Json::array();
  out["NamesHistory"] = view.names;
  return out;
}

Json history_of(const ImageView& view) {
  Json steps = Json::array();
  Json history = member(view.config, "history");
  if (!history.is_array() || history.empty()) {
    // A config may lack it: then each layer is a step of which nothing is known.
    history = Json::array();
    for (std::size_t i = 0; i < view.layer_sizes.size(); ++i) history.push_back(Json::object());
  }
  std::size_t layer = 0;
  for (const Json& step : history) {
    bool has_layer = !is_true(step, "empty_layer") && layer < view.layer_sizes.size();
    Json out;
    out["id"] = "<missing>";
    out["created"] = text_of(step, "created");
    out["createdBy"] = text_of(step, "created_by");
    out["size"] = has_layer ? view.layer_sizes[layer] : 0;
    out["comment"] = text_of(step, "comment");
    out["emptyLayer"] = !has_layer;
    if (has_layer) out["layer"] = view.record.layers[layer++].diff_id.str();
    steps.insert(steps.begin(), out);
  }
  if (!steps.empty()) {
    steps.front()["id"] = view.record.config.hex();
    steps.front()["tags"] = view.names;
  }
  return steps;
}

}  // namespace layerfs::tools
