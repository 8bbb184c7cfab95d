// SPDX-License-Identifier: Apache-2.0
// The part of an OCI image configuration that running needs (image-spec, config.md). Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "fs/base/result.h"

namespace layerfs::spec {

struct ImageConfig {
  std::string user;
  std::string working_dir;
  std::vector<std::string> env;
  std::vector<std::string> entrypoint;
  std::vector<std::string> cmd;
  std::vector<std::string> volumes;
  std::string stop_signal;
};

/// Errors: kInvalid naming the field.
Result<ImageConfig> parse_image_config(std::string_view json);

}  // namespace layerfs::spec
