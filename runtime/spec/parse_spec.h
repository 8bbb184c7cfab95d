// SPDX-License-Identifier: Apache-2.0
// config.json -> ContainerSpec. Pure and total: any bytes give a spec or an error that names the field.
#pragma once

#include <string_view>

#include "fs/base/result.h"
#include "runtime/spec/container_spec.h"

namespace layerfs::spec {

/// Errors: kInvalid where it is no JSON or a field is wrong; kUnsupported for a property of the specification
/// that this runtime does not implement. The message names the field by its path. validate() has been called.
Result<ContainerSpec> parse_spec(std::string_view json);

/// A `process` object of its own, as `exec --process FILE` takes. What bounds a process of the container
/// bounds this one too unless it says otherwise: capabilities, noNewPrivileges, rlimits, apparmorProfile and
/// selinuxLabel that it leaves out are those of `container`.
Result<Process> parse_process(std::string_view json, const Process& container = {});

/// A `linux.resources` object of its own, as `update --resources FILE` takes.
Result<Resources> parse_resources(std::string_view json);

/// A `linux.seccomp` object of its own, or a profile file of Docker or Podman (archMap, includes and excludes
/// by architecture and capability), as `--security-opt seccomp=FILE` takes. `capabilities`: names in the
/// bounding set.
Result<Seccomp> parse_seccomp_profile(std::string_view json, const std::vector<std::string>& capabilities);

/// What the specification demands across fields. Errors: kInvalid naming the field.
Result<void> validate(const ContainerSpec& spec);
Result<void> validate(const Process& process);

}  // namespace layerfs::spec
