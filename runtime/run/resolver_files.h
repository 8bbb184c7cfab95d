// SPDX-License-Identifier: Apache-2.0
// The files of a container that the runtime writes: /etc/resolv.conf, /etc/hosts and /etc/hostname.
#pragma once

#include <string>
#include <string_view>

#include "fs/base/result.h"

namespace layerfs::run {

/// The text of /etc/hosts for a container of that name.
std::string hosts_text(std::string_view host_file, std::string_view hostname);
/// What a container gets of the host's resolv.conf: without a network of the host's, a name server on the
/// loopback interface is not there and is left out.
enum class NameServers : unsigned char { kAll, kNotLoopback };
std::string resolv_text(std::string_view host_file, NameServers which);
/// Writes the three into `directory`.
struct ResolverFiles {
  std::string hostname;
  bool host_network = false;
};
Result<void> write_resolver_files(const std::string& directory, const ResolverFiles& files);

}  // namespace layerfs::run
