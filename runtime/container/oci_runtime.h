// SPDX-License-Identifier: Apache-2.0
// The operations of an OCI runtime (runtime-spec, runtime.md) on one state directory.
//
// (1) An operation that changes a container holds its lock from reading the state to writing it.
// (2) A create that fails leaves nothing: no process, no group, no directory.
// (3) Requires a single-threaded process, for create(), run() and exec().
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "fs/base/result.h"
#include "runtime/container/launch.h"
#include "runtime/container/state_store.h"
#include "runtime/plan/cgroup_stats.h"
#include "runtime/spec/container_spec.h"

namespace layerfs::container {

struct CreateRequest {
  std::string id;
  std::string bundle = ".";
  std::string config;  ///< empty: BUNDLE/config.json
  std::string pid_file;
  std::string console_socket;
  unsigned preserve_fds = 0;
  bool no_pivot = false;
  bool new_keyring = true;
  plan::CgroupMode cgroup_mode = plan::CgroupMode::kRequired;
  plan::CgroupManager cgroup_manager = plan::CgroupManager::kFiles;
};

struct ExecRequest {
  std::string id;
  std::string process_file;  ///< JSON; empty: `process`
  std::optional<std::vector<std::string>> args;
  std::vector<std::string> env;
  std::string cwd;
  std::string user;  ///< "uid[:gid]"
  std::vector<std::string> capabilities;
  std::string cgroup;  ///< a group below the container's; it stays in its own where that is not there
  std::string pid_file;
  std::string console_socket;
  unsigned preserve_fds = 0;
  bool terminal = false;
  bool detach = false;
  bool no_new_privileges = false;
  std::string apparmor_profile;  ///< empty: the container's
  std::string selinux_label;
  std::vector<std::uint32_t> additional_gids;
  bool ignore_paused = false;  ///< a paused container is no error: it runs once that is thawed
};

class OciRuntime {
 public:
  explicit OciRuntime(std::string root) : store_(std::move(root)) {}

  /// Returns when the init waits for start().
  Result<void> create(const CreateRequest& request);
  /// Errors: where the container is not created.
  Result<void> start(const std::string& id);
  /// create and start; in the foreground also waits and deletes.
  enum class Wait : std::uint8_t { kForeground, kDetached, kKeep };
  struct End {
    int status = 0;       ///< the exit status; 0 when detached
    std::string message;  ///< why, where it ran out of memory
  };
  Result<End> run(const CreateRequest& request, Wait wait);
  /// Runs one more process in a running container. Returns its exit status, or 0 when detached.
  Result<int> exec(const ExecRequest& request);
  Result<std::string> state(const std::string& id);
  /// `all`: every process of the container.
  enum class Target : std::uint8_t { kInit, kAll };
  Result<void> kill(const std::string& id, int signal, Target target);
  /// Removes a stopped container; with kForce kills it first, and one that does not exist is success.
  enum class Force : std::uint8_t { kNo, kYes };
  Result<void> remove(const std::string& id, Force force);
  Result<void> pause(const std::string& id);
  Result<void> resume(const std::string& id);
  Result<std::vector<pid_t>> processes(const std::string& id);

  /// Changes limits of a container that is not stopped; what `resources` does not set stays. Device rules are
  /// added to those there are (v1) or take their place (v2). Errors: kInvalid, kUnsupported naming the field.
  Result<void> update(const std::string& id, spec::Resources resources);
  /// Writes lines to the container's class of service (linux.intelRdt). Errors: kUnsupported where it has
  /// none.
  Result<void> update_schemata(const std::string& id, const std::vector<std::string>& lines);
  /// What its groups use now. Errors: kInvalid where it is stopped.
  Result<plan::CgroupStats> stats(const std::string& id);
  /// Calls `on_stats` at once and then every `interval` milliseconds, and `on_out_of_memory` for each process
  /// that the kernel has killed for lack of memory meanwhile; returns when the container has stopped.
  struct Watcher {
    int interval = 5'000;
    std::function<Result<void>(const plan::CgroupStats&)> on_stats;
    std::function<Result<void>()> on_out_of_memory;
  };
  Result<void> watch(const std::string& id, const Watcher& watcher);

  struct Listed {
    ContainerState state;
    Status status;
  };
  Result<std::vector<Listed>> list();

 private:
  struct Created {
    LaunchedInit init;
    ContainerState state;
    spec::ContainerSpec spec;
    Fd master;
  };
  Result<Created> create_locked(const CreateRequest& request);
  Result<void> start_locked(const ContainerState& state, const spec::Hooks& hooks);
  Result<int> wait_in_foreground(Created& created, int signal_fd);
  Result<spec::ContainerSpec> stored_spec(const std::string& id);
  Result<void> remove_locked(const std::string& id, const ContainerState& state);

  StateStore store_;
};

/// "KILL", "SIGKILL" and "9". Errors: kInvalid.
Result<int> parse_signal(const std::string& text);

}  // namespace layerfs::container
