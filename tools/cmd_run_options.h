// SPDX-License-Identifier: Apache-2.0
// The options of `layerfs run` as they are typed, and what they mean on this host.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "fs/base/result.h"
#include "runtime/plan/container_plan.h"
#include "runtime/plan/run_spec.h"
#include "tools/cmd_pull.h"

namespace layerfs::tools {

struct RunArguments {
  std::string image;
  PullArguments pull;
  std::vector<std::string> command;
  bool remove = false;
  bool detach = false;
  bool interactive = false;
  bool terminal = false;
  std::vector<std::string> env;
  std::vector<std::string> env_files;
  std::string working_dir;
  std::string user;
  std::vector<std::string> labels;
  std::vector<std::string> volumes;
  std::vector<std::string> tmpfs;
  std::string hostname;
  std::string name;
  std::string entrypoint;
  bool has_entrypoint = false;
  std::string memory;
  std::string memory_swap;
  std::string memory_reservation;
  std::string cpus;
  std::string cpu_shares;
  std::string cpuset_cpus;
  std::string pids_limit;
  std::vector<std::string> device_read_bps;
  std::vector<std::string> device_write_bps;
  std::vector<std::string> device_read_iops;
  std::vector<std::string> device_write_iops;
  std::vector<std::string> cap_add;
  std::vector<std::string> cap_drop;
  std::vector<std::string> security_opts;
  bool read_only = false;
  std::string network = "none";
  std::string cgroups = "enabled";
  bool is_volatile = false;
  bool no_init = false;
};

/// Everything but what depends on the container (files_dir) and the host (id maps). Errors: kInvalid naming
/// the option.
Result<plan::RunOptions> make_run_options(const RunArguments& arguments);
/// NAME=VALUE of each; a bare NAME has an empty value, and the last of a name counts. Errors: kInvalid.
Result<std::map<std::string, std::string>> parse_labels(const std::vector<std::string>& items);
/// The lines of an --env-file: NAME=VALUE, NAME (the caller's own value), comments. Errors: kInvalid naming
/// the line.
Result<std::vector<std::string>> parse_env_file(const std::string& text, const std::string& path);
/// Mappings for an ordinary user: the ranges of /etc/subuid and /etc/subgid, or the own id alone; none for
/// root.
Result<void> choose_id_maps(const plan::HostFacts& host, plan::RunOptions& options);

}  // namespace layerfs::tools
