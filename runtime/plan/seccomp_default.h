// SPDX-License-Identifier: Apache-2.0
// The seccomp profile of a container that asks for none: Podman's allow-list with its decisions
// (containers/common, "seccomp.json"). Unknown system calls answer ENOSYS, so that programs fall back; known
// dangerous ones EPERM. What a capability guards is allowed where the container has that capability.
//
// Podman's lets everybody make namespaces and mounts, which is what nested containers need and what a
// container in a user namespace of its own can do little harm with. Where the container's users are the
// host's, we ask for CAP_SYS_ADMIN, as Docker's profile does (moby/profiles, "default.json").
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/spec/container_spec.h"

namespace layerfs::plan {

/// Whose users a container's are: of a user namespace of its own, or the host's.
enum class ContainerUsers : std::uint8_t { kOwn, kHosts };

/// `capabilities`: names in the container's bounding set, each as "CAP_SYS_ADMIN".
spec::Seccomp default_seccomp(const std::vector<std::string>& capabilities, ContainerUsers users);

}  // namespace layerfs::plan
