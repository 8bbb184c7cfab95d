// SPDX-License-Identifier: Apache-2.0
// The commands of layerfs-oci, added to its command line.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "tools/oci_log.h"

namespace layerfs::tools {

struct OciTool {
  std::string root;  ///< --root
  OciLog log;
  std::string cgroup_manager = "cgroupfs";
  std::string rootless = "auto";
  int status = 0;  ///< what main returns

  /// Says the error and sets the exit status.
  void fail(const Error& error, int exit_status = 1);
};

/// create, start, run, kill, delete, state, list, pause, resume, ps, exec, update, events, spec, features.
void add_oci_commands(CLI::App& app, OciTool& tool);

}  // namespace layerfs::tools
