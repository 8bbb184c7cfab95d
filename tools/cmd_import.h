// SPDX-License-Identifier: Apache-2.0
// `layerfs import`.
#pragma once

#include <CLI/CLI.hpp>

#include "tools/io.h"

namespace layerfs::tools {

void add_import_commands(CLI::App& app, Tool& tool);

}  // namespace layerfs::tools
