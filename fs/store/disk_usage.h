// SPDX-License-Identifier: Apache-2.0
// How much disk a file or a tree of files takes.
#pragma once

#include <cstdint>
#include <string>

#include "fs/base/own_files.h"

namespace layerfs::store {

/// Allocated bytes of `path` in a directory of ours and all below it. What cannot be looked at (also because
/// it has just gone) counts 0.
std::uint64_t disk_bytes(const OwnDirectory& directory, const std::string& path);

}  // namespace layerfs::store
