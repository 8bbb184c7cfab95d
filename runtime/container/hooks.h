// SPDX-License-Identifier: Apache-2.0
// Hooks of config.json: programs that get the container's state on standard input (runtime-spec, config.md,
// "POSIX-platform Hooks").
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "fs/base/result.h"
#include "runtime/spec/container_spec.h"

namespace layerfs::container {

/// Runs them one after another, each within its timeout. Errors: the first that cannot be run, fails or is
/// too slow, named by `kind` and its path.
Result<void> run_hooks(const std::vector<spec::Hook>& hooks, std::string_view kind, const std::string& state);
/// poststop: a failure is a warning, and the next one runs.
void run_poststop_hooks(const std::vector<spec::Hook>& hooks, const std::string& state);

}  // namespace layerfs::container
