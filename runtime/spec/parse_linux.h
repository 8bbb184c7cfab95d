// SPDX-License-Identifier: Apache-2.0
// The parts of config.json that parse_spec.cc is made of; each reads one object.
#pragma once

#include "runtime/spec/container_spec.h"
#include "runtime/spec/json_reader.h"

namespace layerfs::spec {

/// `linux`, into the fields of `spec` that come from it.
void read_linux(const JsonReader& linux, ContainerSpec& spec);
std::vector<IdMapping> read_mappings(const JsonReader& parent, const char* name);
Resources read_resources(const JsonReader& resources);
Seccomp read_seccomp(const JsonReader& seccomp);

}  // namespace layerfs::spec
