// SPDX-License-Identifier: Apache-2.0
// Namespaces that a configuration names by a path (runtime-spec, config-linux.md, "Namespaces"): what they
// are is read off the file, not off the path. /proc/1/ns/net, and any bind mount of it, is the host's own.
#pragma once

#include "fs/base/result.h"
#include "runtime/spec/container_spec.h"

namespace layerfs::container {

/// An entry whose path leads to the caller's own namespace goes: the container shares that one, and nothing
/// of it is the container's to set (sysctls, host name, interfaces). A mount namespace is refused: its root
/// would become the container's. Errors: kInvalid naming the field, for what is then not allowed, and for a
/// path that is no namespace's; those of open(2).
Result<void> drop_callers_namespaces(spec::ContainerSpec& spec);

/// Opens a namespace for setns(2). Errors: kInvalid where the path is that of anything else: a fifo would
/// keep us waiting.
Result<Fd> open_namespace(const std::string& path);

}  // namespace layerfs::container
