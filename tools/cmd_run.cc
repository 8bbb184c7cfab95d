// SPDX-License-Identifier: Apache-2.0
#include "tools/cmd_run.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "fs/base/log.h"
#include "fs/base/random.h"
#include "fs/base/scope_exit.h"
#include "fs/base/sys_file.h"
#include "fs/mount/mount_table.h"
#include "fs/store/store.h"
#include "runtime/container/host.h"
#include "runtime/run/labels_file.h"
#include "runtime/run/resolver_files.h"
#include "runtime/run/run_container.h"
#include "runtime/run/running_file.h"
#include "runtime/spec/image_defaults.h"
#include "tools/cmd_containers.h"
#include "tools/cmd_pull.h"
#include "tools/cmd_run_options.h"
#include "tools/cmd_store_access.h"

namespace layerfs::tools {

namespace {

Result<void> check_name(const std::string& name) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
  if (name.empty() || name.find_first_not_of(kAllowed) != std::string::npos || name.front() == '-' ||
      name.front() == '.')
    return invalid_error("--name", name, "must be of letters, digits and \"_.-\"");
  return {};
}

std::unexpected<Error> name_in_use(store::Store& store, const std::string& name) {
  auto taken = system_error(EEXIST, "--name", name);
  auto holder = store.find_container(name);
  taken.error().reason = "the name is in use";
  if (holder && *holder)
    taken.error().reason +=
        fmt::format(" by {} {} (`layerfs {} {}` removes it)", (*holder)->is_mount ? "upper" : "container",
                    (*holder)->id.substr(0, 12), (*holder)->is_mount ? "upper rm" : "rm", name);
  return taken;
}

/// The store is open only in here: monitor and server open it again, each after its fork.
struct Prepared {
  store::ContainerRecord record;
  spec::ImageDefaults config;
  std::string directory;
};
Result<Prepared> prepare(const Tool& tool, const RunArguments& arguments, const store::ImageRecord& image,
                         const std::string& id) {
  LAYERFS_ASSIGN(auto store, open_store(tool, store::StoreAccess::kWrite));
  LAYERFS_ASSIGN(std::string config_json, store->get_blob(image.config));
  Prepared prepared;
  LAYERFS_ASSIGN(prepared.config, spec::parse_image_defaults(config_json));
  store::ContainerRecord& record = prepared.record;
  record.id = id;
  record.name = arguments.name.empty() ? record.id.substr(0, 12) : arguments.name;
  LAYERFS_TRY(check_name(record.name));
  record.image_reference = image.reference;
  record.image_manifest = image.manifest;
  record.image_config = image.config;
  record.chain = image.chain;
  for (const auto& layer : image.layers) record.layers.push_back(layer.diff_id);
  record.created_at = std::time(nullptr);
  auto added = store->add_container(record);
  if (!added && added.error().code == EEXIST) return name_in_use(*store, record.name);
  LAYERFS_TRY(added);
  prepared.directory = store->container_dir(record.id);
  if (!arguments.labels.empty()) {
    LAYERFS_ASSIGN(auto labels, parse_labels(arguments.labels));
    LAYERFS_TRY(run::write_labels(prepared.directory, labels));
  }
  return prepared;
}

/// A failure before the monitor: what has been made goes.
void forget(const Tool& tool, const run::RunningState& state) {
  if (auto cleaned = run::clean_up(tool.store_root, state); !cleaned)
    log_warning("{}", cleaned.error().message());
}

plan::CgroupMode cgroup_mode(const std::string& text) {
  if (text == "required") return plan::CgroupMode::kRequired;
  return text == "disabled" ? plan::CgroupMode::kDisabled : plan::CgroupMode::kEnabled;
}

/// Plan and mount of a container that is recorded already.
Result<run::RunRequest> make_request(const Tool& tool, const RunArguments& arguments,
                                     const Prepared& prepared, plan::RunOptions& options) {
  LAYERFS_ASSIGN(plan::HostFacts host, container::read_host_facts());
  LAYERFS_TRY(choose_id_maps(host, options));
  if (options.hostname.empty()) options.hostname = prepared.record.id.substr(0, 12);
  options.files_dir = prepared.directory;
  options.processors = host.processors;
  bool host_network = options.network == plan::RunNetwork::kHost;
  LAYERFS_TRY(run::write_resolver_files(prepared.directory, {options.hostname, host_network}));
  LAYERFS_ASSIGN(spec::ContainerSpec spec, plan::make_run_spec(prepared.config, options));

  run::RunRequest request;
  plan::PlanOptions plan_options;
  plan_options.fuse_root = prepared.directory + "/rootfs";
  LAYERFS_TRY(make_dir(plan_options.fuse_root, 0700));
  plan_options.use_init = !arguments.no_init;
  plan_options.cgroup_name = "layerfs-" + prepared.record.id;
  plan_options.cgroup_mode = cgroup_mode(arguments.cgroups);
  LAYERFS_ASSIGN(request.plan, plan::plan_container(spec, host, plan_options));
  if (spec.seccomp) {
    LAYERFS_ASSIGN(request.seccomp, container::make_seccomp_program(*spec.seccomp));
  }
  request.mount.store_root = tool.store_root;
  request.mount.layers = prepared.record.layers;
  request.mount.upper_dir = prepared.directory;
  request.mount.upper_id = prepared.record.id;
  // What is removed at its end needs no durability.
  request.mount.is_volatile = arguments.is_volatile || arguments.remove;
  request.mount.fuse.source = fmt::format("{}{}", mount::kSourcePrefix, prepared.record.id);
  request.mount.fuse.allow_other = true;
  request.mount.fuse.suid = true;
  if (options.uid_map.size() == 1 && options.uid_map.front().size == 1) {
    request.mount.fuse.ids.squash_all = true;
    request.mount.fuse.ids.uid = 0;
    request.mount.fuse.ids.gid = 0;
  }
  request.name = prepared.record.name;
  request.cgroup_mode = plan_options.cgroup_mode;
  request.memory_limit = options.resources.memory_limit.value_or(0);
  request.remove = arguments.remove;
  request.detach = arguments.detach;
  request.interactive = arguments.interactive;
  return request;
}

Result<int> run_command(const Tool& given, const RunArguments& arguments) {
  Tool tool = given;
  LAYERFS_ASSIGN(plan::RunOptions options, make_run_options(arguments));
  // Monitor and server work in another directory.
  LAYERFS_ASSIGN(tool.store_root, absolute_path(tool.store_root));
  // Without a store there is nothing to run, and no place for what follows.
  LAYERFS_ASSIGN(auto image, get_image_pulling(tool, arguments.image, arguments.pull, nullptr));
  run::sweep_stale(tool.store_root);
  run::RunningState state;
  state.id = random_hex(32);
  state.remove = true;  // until it runs
  LAYERFS_ASSIGN(auto running, run::RunningFile::create(tool.store_root, state));
  ScopeExit forget_container([&] { forget(tool, state); });
  LAYERFS_ASSIGN(Prepared prepared, prepare(tool, arguments, image, state.id));
  LAYERFS_ASSIGN(run::RunRequest request, make_request(tool, arguments, prepared, options));
  forget_container.release();
  LAYERFS_ASSIGN(int status, run::run_container(request, std::move(running)));
  if (arguments.detach && status == 0) LAYERFS_TRY(print(prepared.record.id + '\n'));
  return status;
}

void add_run(CLI::App& app, Tool& tool) {
  auto arguments = std::make_shared<RunArguments>();
  CLI::App* run = app.add_subcommand("run", "Run a command in a new container of an image");
  run->positionals_at_end();
  run->set_help_flag("--help", "Print this help message and exit");  // -h is the host name's, as with Podman
  run->add_flag("--rm", arguments->remove, "Remove the container when it ends");
  run->add_flag("-d,--detach", arguments->detach, "Run in the background and print the container's id");
  run->add_flag("-i,--interactive", arguments->interactive, "Standard input is the container's");
  run->add_flag("-t,--tty", arguments->terminal, "With a terminal");
  auto list = [&](const char* names, std::vector<std::string>& to, const char* help) {
    run->add_option(names, to, help)->allow_extra_args(false);
  };
  list("-e,--env", arguments->env, "NAME=VALUE, or NAME for the caller's value");
  list("--env-file", arguments->env_files, "File of NAME=VALUE lines");
  run->add_option("-w,--workdir", arguments->working_dir, "Working directory");
  run->add_option("-u,--user", arguments->user, "USER[:GROUP], by name or number");
  list("-l,--label", arguments->labels, "NAME=VALUE, which ps --json and inspect show");
  list("-v,--volume", arguments->volumes,
       "SOURCE:DESTINATION[:ro,...]; SOURCE is a path, as /data, ./data or .");
  list("--tmpfs", arguments->tmpfs, "DIRECTORY[:OPTIONS]");
  run->add_option("-h,--hostname", arguments->hostname, "Host name");
  run->add_option("--name", arguments->name, "Name of the container");
  run->add_option("--entrypoint", arguments->entrypoint, "Program in place of the image's")
      ->each([arguments](const std::string&) { arguments->has_entrypoint = true; });
  run->add_option("-m,--memory", arguments->memory, "Most memory, as 512m");
  run->add_option("--memory-swap", arguments->memory_swap, "Most memory and swap together; -1: no limit");
  run->add_option("--memory-reservation", arguments->memory_reservation,
                  "Memory that is spared under pressure");
  run->add_option("--cpus", arguments->cpus, "Most processor time, as 0.25");
  run->add_option("--cpu-shares", arguments->cpu_shares, "Weight against other groups; 1024 is usual");
  run->add_option("--cpuset-cpus", arguments->cpuset_cpus, "Processors, as 0-1,3");
  run->add_option("--pids-limit", arguments->pids_limit, "Most processes and threads; -1: no limit");
  list("--device-read-bps", arguments->device_read_bps, "DEVICE:RATE, most bytes read a second, as 2m");
  list("--device-write-bps", arguments->device_write_bps, "DEVICE:RATE, most bytes written a second");
  list("--device-read-iops", arguments->device_read_iops, "DEVICE:RATE, most reads a second");
  list("--device-write-iops", arguments->device_write_iops, "DEVICE:RATE, most writes a second");
  list("--cap-add", arguments->cap_add, "One more capability, or ALL");
  list("--cap-drop", arguments->cap_drop, "One capability less, or ALL");
  list("--security-opt", arguments->security_opts, "no-new-privileges, seccomp=FILE, seccomp=unconfined");
  run->add_flag("--read-only", arguments->read_only, "The root cannot be written");
  run->add_option(
         "--network,--net", arguments->network,
         "none (the default: a loopback interface and nothing else, so that no name resolves) or host")
      ->check(CLI::IsMember({"none", "host"}));
  run->add_option("--cgroups", arguments->cgroups, "required, enabled or disabled")
      ->check(CLI::IsMember({"required", "enabled", "disabled"}));
  run->add_flag("--volatile", arguments->is_volatile,
                "Let fsync do nothing: fast, and lost at a power failure");
  add_policy_option(*run, "--pull", arguments->pull.policy);
  run->add_option("--platform", arguments->pull.platform, "OS/ARCHITECTURE[/VARIANT] of what is pulled");
  add_access_options(*run, arguments->pull.access);
  run->add_flag("-q,--quiet", arguments->pull.quiet, "No progress bar of a pull");
  run->add_flag("!--init,--no-init{true}", arguments->no_init,
                "Be the first process oneself, without an init");
  run->add_option("IMAGE", arguments->image, "Name or id")->required();
  run->add_option("COMMAND", arguments->command, "Program and arguments, in place of the image's");
  run->callback([arguments, &tool] {
    auto status = run_command(tool, *arguments);
    tool.status = status ? *status : kExitNotStarted;
    if (!status) report_error(tool, status.error());
  });
}

}  // namespace

void add_run_commands(CLI::App& app, Tool& tool) {
  add_run(app, tool);
  add_container_commands(app, tool);
}

}  // namespace layerfs::tools
