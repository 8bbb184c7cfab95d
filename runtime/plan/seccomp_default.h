// SPDX-License-Identifier: Apache-2.0
// The seccomp profile of a container that asks for none: an allow-list with the same decisions as Podman's
// and Docker's (containers/common, "seccomp.json"). Unknown system calls answer ENOSYS, so that programs fall
// back; known dangerous ones EPERM. What a capability guards is allowed where the container has that
// capability.
#pragma once

#include <string>
#include <vector>

#include "runtime/spec/container_spec.h"

namespace layerfs::plan {

/// `capabilities`: names in the container's bounding set, each as "CAP_SYS_ADMIN".
spec::Seccomp default_seccomp(const std::vector<std::string>& capabilities);

}  // namespace layerfs::plan
