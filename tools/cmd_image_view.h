// SPDX-License-Identifier: Apache-2.0
// An image of the store with its config read: what `images`, `inspect` and `history` show.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fs/base/result.h"
#include "fs/store/store.h"
#include "tools/json_text.h"

namespace layerfs::tools {

using Json = nlohmann::ordered_json;

struct ImageView {
  store::ImageRecord record;
  std::vector<std::string> names;  ///< every reference of the same image; none: it lost its name
  Json config;                     ///< OCI image-spec config.json, or Docker's, as it came
  Json manifest;
  std::int64_t created = 0;  ///< seconds since 1970: the config's, else the time of the import
  std::uint64_t size = 0;    ///< bytes of the layers' tars
  std::vector<std::uint64_t> layer_sizes;
};

/// Reads config, manifest and sizes. Errors: kCorrupt where a blob or layer is not what it should be.
Result<ImageView> view_image(store::Store& store, const store::ImageRecord& record);
/// Every image once, newest first, with all its names.
Result<std::vector<ImageView>> view_images(store::Store& store);

/// One element of `podman image inspect`'s array.
Json inspect_image(const ImageView& view);
/// One element a step, newest first, as `podman history --format json`.
Json history_of(const ImageView& view);

/// RFC 3339, as JSON of the OCI has times. nullopt: it is no such time.
std::optional<std::int64_t> parse_time(std::string_view text);
std::string format_time(std::int64_t seconds);

/// A string of a JSON object, or "" where it is absent or no string.
std::string text_of(const Json& object, const char* key);

/// "repository" and "tag" of a reference; `<none>` for what it lacks.
std::pair<std::string, std::string> split_reference(const std::string& reference);

}  // namespace layerfs::tools
