// SPDX-License-Identifier: Apache-2.0
// `layerfs run` and the commands on its containers: ps, rm, stop, kill, logs.
#pragma once

#include <CLI/CLI.hpp>

#include "tools/io.h"

namespace layerfs::tools {

void add_run_commands(CLI::App& app, Tool& tool);

}  // namespace layerfs::tools
