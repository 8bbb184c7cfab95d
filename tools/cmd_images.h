// SPDX-License-Identifier: Apache-2.0
// `layerfs images`, `inspect`, `history`, `tag` and `rmi`.
#pragma once

#include <CLI/CLI.hpp>

#include "tools/io.h"

namespace layerfs::tools {

void add_images_commands(CLI::App& app, Tool& tool);

}  // namespace layerfs::tools
