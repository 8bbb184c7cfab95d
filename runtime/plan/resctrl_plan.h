// SPDX-License-Identifier: Apache-2.0
// linux.intelRdt as what is made, written and joined in the host's resctrl file system (the kernel's
// Documentation/arch/x86/resctrl.rst). Pure; container/resctrl.h does it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "fs/base/mount_info.h"
#include "fs/base/result.h"
#include "runtime/spec/container_spec.h"

namespace layerfs::plan {

struct ResctrlPlan {
  std::string mount_point;
  std::string directory;       ///< the container's class of service; the mount point where it is the default
  bool must_exist = false;     ///< it has been prepared by somebody else
  bool is_containers = false;  ///< named after the container: goes with it, if it was made for it
  std::vector<std::string> compared;  ///< lines that a directory which is there already must have
  std::string schemata;               ///< lines to write; empty: none
  std::string monitor;                ///< directory of the container's monitoring group; empty: none
};

/// Where resctrl is mounted; empty: nowhere.
std::string find_resctrl(const std::vector<MountEntry>& mounts);
/// Errors: kUnsupported where `mount_point` is empty.
Result<ResctrlPlan> plan_resctrl(const spec::IntelRdt& rdt, const std::string& mount_point,
                                 const std::string& container_id);
/// Whether each of `lines` ("L3:0=7f0;1=1f") is what the file `schemata` says of the same domains: other
/// domains, the order, leading zeros and the case do not count.
bool schemata_match(const std::vector<std::string>& lines, std::string_view schemata);

}  // namespace layerfs::plan
