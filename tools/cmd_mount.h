// SPDX-License-Identifier: Apache-2.0
// `layerfs mount`, `layerfs umount` and `layerfs upper`: images as directories, and the named uppers that
// keep what was changed in them.
#pragma once

#include <CLI/CLI.hpp>

#include "tools/io.h"

namespace layerfs::tools {

void add_mount_commands(CLI::App& app, Tool& tool);

}  // namespace layerfs::tools
