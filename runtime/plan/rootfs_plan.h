// SPDX-License-Identifier: Apache-2.0
// The steps that make a container's root: mounts, /dev, masked paths. Pure.
#pragma once

#include <vector>

#include "fs/base/result.h"
#include "runtime/plan/container_plan.h"
#include "runtime/plan/step.h"

namespace layerfs::plan {

/// From the propagation of '/' to Pivot. Errors: kUnsupported, kInvalid naming the mount or device.
Result<std::vector<Step>> plan_rootfs(const spec::ContainerSpec& spec, const HostFacts& host,
                                      const PlanOptions& options, const CgroupPlan& cgroup);

}  // namespace layerfs::plan
