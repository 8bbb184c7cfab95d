// SPDX-License-Identifier: Apache-2.0
// Editing of an image's config (OCI image-spec, config.md): what a commit adds to it. Fields that are not
// understood are kept, in their place. Pure; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/digest.h"
#include "fs/base/result.h"

namespace layerfs::image {

/// The layer that comes on top, with its line of history.
struct ConfigLayer {
  Digest diff_id;
  std::int64_t created = 0;  ///< seconds since 1970
  std::string created_by;
  std::string author;   ///< empty: the config's own stays
  std::string comment;  ///< empty: none
};

/// The config with `layer` on top and `changes` made, in order. A change is an instruction as in a
/// Containerfile, "CMD ..." or "CMD=...": CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME,
/// WORKDIR. Where the config's history does not tell of all its layers, nameless lines are put before the new
/// one. Errors: kInvalid where it is no image config, or a change is none of these or lacks its value.
Result<std::string> edit_config(std::string_view config, const ConfigLayer& layer,
                                const std::vector<std::string>& changes);

/// "2025-12-01T00:00:00Z".
std::string rfc3339(std::int64_t seconds);

}  // namespace layerfs::image
