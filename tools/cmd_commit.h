// SPDX-License-Identifier: Apache-2.0
// `layerfs commit`: the changes of a container, a named upper or a live mount as a new image.
#pragma once

#include <CLI/CLI.hpp>

#include "tools/io.h"

namespace layerfs::tools {

void add_commit_commands(CLI::App& app, Tool& tool);

}  // namespace layerfs::tools
