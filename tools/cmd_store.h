// SPDX-License-Identifier: Apache-2.0
// `layerfs store df`, `store gc` and `store check`.
#pragma once

#include <CLI/CLI.hpp>

#include "tools/io.h"

namespace layerfs::tools {

void add_store_commands(CLI::App& app, Tool& tool);

}  // namespace layerfs::tools
