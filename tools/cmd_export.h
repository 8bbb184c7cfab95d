// SPDX-License-Identifier: Apache-2.0
// `layerfs export`: an image of the store to a layout, an archive or a root file system tar.
#pragma once

#include <CLI/CLI.hpp>

#include "tools/io.h"

namespace layerfs::tools {

void add_export_commands(CLI::App& app, Tool& tool);

}  // namespace layerfs::tools
