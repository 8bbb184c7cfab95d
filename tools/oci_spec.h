// SPDX-License-Identifier: Apache-2.0
// `layerfs-oci spec` and `layerfs-oci features`: JSON documents of the runtime-spec.
#pragma once

#include <cstdint>
#include <string>

namespace layerfs::tools {

/// A config.json that runs a shell in BUNDLE/rootfs. `rootless_uid`/`gid`: the caller's ids where it is to
/// run without privilege.
struct SpecOptions {
  bool rootless = false;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
};
std::string default_config(const SpecOptions& options);

/// runtime-spec, features.md.
std::string features();

}  // namespace layerfs::tools
