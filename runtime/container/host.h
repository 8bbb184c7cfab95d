// SPDX-License-Identifier: Apache-2.0
// Facts about the host and the caller, for plans.
#pragma once

#include "fs/base/result.h"
#include "runtime/plan/container_plan.h"

namespace layerfs::container {

/// Errors: /proc that cannot be read.
Result<plan::HostFacts> read_host_facts();

}  // namespace layerfs::container
