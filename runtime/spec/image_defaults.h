// SPDX-License-Identifier: Apache-2.0
// What an image says about running it: the member `config` of its OCI configuration (image-spec, config.md).
// What import needs of the same document is read by fs/image/manifest.h. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "fs/base/result.h"

namespace layerfs::spec {

struct ImageDefaults {
  std::string user;
  std::string working_dir;
  std::vector<std::string> env;
  std::vector<std::string> entrypoint;
  std::vector<std::string> cmd;
  std::vector<std::string> volumes;
  std::string stop_signal;
};

/// Errors: kInvalid naming the field.
Result<ImageDefaults> parse_image_defaults(std::string_view json);

}  // namespace layerfs::spec
