// SPDX-License-Identifier: Apache-2.0
// Hooks of config.json: programs that get the container's state on standard input (runtime-spec, config.md,
// "POSIX-platform Hooks").
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "fs/base/fd.h"
#include "fs/base/result.h"
#include "runtime/spec/container_spec.h"

namespace layerfs::container {

/// Where hooks write, when it is not where we do (annotations run.oci.hooks.stdout and .stderr of crun(1)).
struct HookFiles {
  Fd out;
  Fd err;
};
/// Opened by the caller's paths, hence outside of the container: for appending, made where they are missing.
Result<HookFiles> open_hook_files(const spec::Hooks& hooks);

/// Runs them one after another, each within its timeout. Errors: the first that cannot be run, fails or is
/// too slow, named by `kind` and its path.
Result<void> run_hooks(const std::vector<spec::Hook>& hooks, std::string_view kind, const std::string& state,
                       const HookFiles& files);
/// poststop: a failure is a warning, and the next one runs.
void run_poststop_hooks(const spec::Hooks& hooks, const std::string& state);

}  // namespace layerfs::container
