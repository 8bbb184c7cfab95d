// SPDX-License-Identifier: Apache-2.0
// A container's class of service and monitoring group in resctrl: made, joined and removed as planned
// (plan/resctrl_plan.h). Each is a directory; the kernel fills one with its files when it is made.
//
// (1) What is returned as the container's own is removed with it, and nothing else is.
// (2) Where make_resctrl() fails it leaves nothing that it made.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "fs/base/result.h"
#include "runtime/plan/resctrl_plan.h"

namespace layerfs::container {

/// The directories that are the container's own, in the order of removing them. Errors: naming the field
/// (linux.intelRdt...), with what the kernel says of it.
Result<std::vector<std::string>> make_resctrl(const plan::ResctrlPlan& plan);
Result<void> join_resctrl(const plan::ResctrlPlan& plan, pid_t pid);
/// Writes lines to the class of service that is there.
Result<void> write_schemata(const plan::ResctrlPlan& plan);
/// What is gone already is success.
Result<void> remove_resctrl(const std::vector<std::string>& directories);

}  // namespace layerfs::container
