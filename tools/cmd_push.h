// SPDX-License-Identifier: Apache-2.0
// `layerfs push`.
#pragma once

#include <CLI/CLI.hpp>

#include "tools/io.h"

namespace layerfs::tools {

void add_push_commands(CLI::App& app, Tool& tool);

}  // namespace layerfs::tools
