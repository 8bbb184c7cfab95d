// SPDX-License-Identifier: Apache-2.0
// Commands on the containers of `layerfs run`: ps, rm, stop, kill, logs.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "tools/io.h"

namespace layerfs::tools {

void add_container_commands(CLI::App& app, Tool& tool);

}  // namespace layerfs::tools
