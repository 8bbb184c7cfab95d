// SPDX-License-Identifier: Apache-2.0
// `layerfs-oci update` and `layerfs-oci events`.
#pragma once

#include "tools/oci_commands.h"

namespace layerfs::tools {

void add_update(CLI::App& app, OciTool& tool);
/// Prints lines of JSON in runc's form: {"type":"stats","id":...,"data":{...}}, {"type":"oom","id":...}.
void add_events(CLI::App& app, OciTool& tool);

}  // namespace layerfs::tools
