// SPDX-License-Identifier: Apache-2.0
// What `layerfs run` asks for, as a ContainerSpec: the image's config and the command's options. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/result.h"
#include "runtime/spec/container_spec.h"
#include "runtime/spec/image_defaults.h"

namespace layerfs::plan {

enum class RunNetwork : std::uint8_t { kNone, kHost };

struct Volume {
  std::string source;  ///< on the host, absolute
  std::string destination;
  std::vector<std::string> options;
  bool owned_by_user = false;  ///< option U
  bool operator==(const Volume&) const = default;
};

struct RunOptions {
  std::vector<std::string> command;
  std::optional<std::string> entrypoint;  ///< replaces the image's; "" is none
  std::vector<std::string> env;           ///< NAME=VALUE
  std::string working_dir;
  std::string user;
  std::string hostname;
  std::vector<Volume> volumes;
  std::vector<std::string> tmpfs;  ///< "/dst" or "/dst:options"
  std::vector<std::string> cap_add;
  std::vector<std::string> cap_drop;
  RunNetwork network = RunNetwork::kNone;
  bool terminal = false;
  bool read_only = false;
  bool no_new_privileges = false;
  std::optional<spec::Seccomp> seccomp;  ///< nullopt and not unconfined: the default profile
  bool seccomp_unconfined = false;
  spec::Resources resources;
  // facts of the host and of this run
  std::vector<spec::IdMapping> uid_map;  ///< empty: no user namespace
  std::vector<spec::IdMapping> gid_map;
  unsigned processors = 0;  ///< HostFacts
  std::string files_dir;    ///< holds resolv.conf, hosts, hostname; empty: none of them is mounted
  std::string terminal_type = "xterm";
};

/// Errors: kInvalid naming the option or the image's field: no command, bad volume...
Result<spec::ContainerSpec> make_run_spec(const spec::ImageDefaults& image, const RunOptions& options);

/// "SRC:DST[:OPT,...]". Errors: kInvalid.
Result<Volume> parse_volume(std::string_view text);
/// "512", "64k", "512m", "1.5g" in bytes (powers of 1024). Errors: kInvalid naming `option`.
Result<std::int64_t> parse_size(std::string_view text, std::string_view option);
/// "0.25" cpus in microseconds of a 100 ms period. Errors: kInvalid.
Result<std::int64_t> parse_cpus(std::string_view text);

/// Paths that are hidden from, or read-only for, a container by default.
const std::vector<std::string>& default_masked_paths();
const std::vector<std::string>& default_readonly_paths();

}  // namespace layerfs::plan
