// SPDX-License-Identifier: Apache-2.0
// `layerfs login` and `layerfs logout`, in Podman's words.
#pragma once

#include <CLI/CLI.hpp>

#include "tools/io.h"

namespace layerfs::tools {

void add_login_commands(CLI::App& app, Tool& tool);

}  // namespace layerfs::tools
