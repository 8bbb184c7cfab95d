// SPDX-License-Identifier: Apache-2.0
// MountRequest: what is to be mounted, as values. mount.h turns it into a running mount.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fs/base/digest.h"
#include "fs/fuse/fuse_server.h"

namespace layerfs::mount {

struct MountRequest {
  std::string store_root;
  std::vector<Digest> layers;  ///< diffIDs, lowest first
  std::string upper_dir;       ///< containers/<id>; empty: read-only
  std::string upper_id;        ///< the container's id; names the control socket
  bool is_volatile = false;
  fuse::FuseOptions fuse;
};

}  // namespace layerfs::mount
