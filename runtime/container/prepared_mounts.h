// SPDX-License-Identifier: Apache-2.0
// Mounts that the creator makes for its container, since the init, in a user namespace, may not: idmapped
// ones, and those of a source below a directory that the container's root may not enter. They are attached
// nowhere until the init puts them into the container's root.
#pragma once

#include <span>
#include <vector>

#include "fs/base/fd.h"
#include "fs/base/result.h"
#include "runtime/plan/step.h"

namespace layerfs::container {

/// One mount for each step with an id map, in their order. Requires: a single-threaded caller in the host's
/// namespaces. Errors: the step's, named by its target.
Result<std::vector<Fd>> prepare_mounts(std::span<const plan::Step> steps);

/// The bind mount of `steps[step]`, or its device. Errors: kInvalid where it is neither; EACCES, EPERM where
/// the creator may not either.
Result<Fd> copy_source(std::span<const plan::Step> steps, std::size_t step);

}  // namespace layerfs::container
