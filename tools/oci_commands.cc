// SPDX-License-Identifier: Apache-2.0
#include "tools/oci_commands.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <pwd.h>
#include <regex.h>
#include <unistd.h>

#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>

#include "fs/base/scope_exit.h"
#include "fs/base/sys_file.h"
#include "runtime/container/oci_runtime.h"
#include "runtime/sys/systemd_manager.h"
#include "tools/io.h"
#include "tools/json_text.h"
#include "tools/oci_limits.h"
#include "tools/oci_spec.h"

namespace layerfs::tools {

namespace {

using container::CreateRequest;
using container::ExecRequest;
using container::OciRuntime;

Result<void> choose_cgroup_manager(const OciTool& tool, CreateRequest& request) {
  bool by_systemd = tool.cgroup_manager == "systemd";
  request.cgroup_mode = tool.cgroup_manager == "disabled" ? plan::CgroupMode::kDisabled
                        : tool.rootless == "true"         ? plan::CgroupMode::kEnabled
                                                          : plan::CgroupMode::kRequired;
  request.cgroup_manager = by_systemd ? plan::CgroupManager::kSystemd : plan::CgroupManager::kFiles;
  if (by_systemd && !sys::has_systemd_support())
    return unsupported_error("--cgroup-manager", "systemd",
                             "this build is without libsystemd (libsystemd-dev was not there)");
  if (by_systemd || tool.cgroup_manager == "cgroupfs" || tool.cgroup_manager == "disabled") return {};
  return unsupported_error("--cgroup-manager", tool.cgroup_manager, "is not cgroupfs, systemd or disabled");
}

/// Options that create and run share.
void add_create_options(CLI::App& command, CreateRequest& request) {
  command.add_option("-b,--bundle", request.bundle, "Directory of config.json and the root");
  command.add_option("-f,--config", request.config, "Configuration in place of BUNDLE/config.json");
  command.add_option("--pid-file", request.pid_file, "Where to write the pid of the container's init");
  command.add_option("--console-socket", request.console_socket,
                     "Unix socket that gets the terminal's master");
  command.add_option("--preserve-fds", request.preserve_fds, "Pass so many descriptors from 3 on");
  command.add_flag("--no-pivot", request.no_pivot, "Do not use pivot_root");
  command.add_flag_callback("--no-subreaper", [] {}, "For callers of crun and runc: it never is one");
  command.add_flag("!--no-new-keyring", request.new_keyring, "Keep the caller's session keyring");
  command.add_option("ID", request.id, "Container id")->required();
}

std::string rfc3339(std::int64_t seconds) {
  auto time = static_cast<std::time_t>(seconds);
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

std::string owner_name(std::uint32_t uid) {
  const passwd* entry = ::getpwuid(uid);
  return entry == nullptr ? '#' + std::to_string(uid) : entry->pw_name;
}

Result<std::string> list_text(const std::vector<OciRuntime::Listed>& list, const std::string& format,
                              bool quiet) {
  if (quiet) {
    std::string text;
    for (const auto& item : list) text += item.state.id + '\n';
    return text;
  }
  if (format == "json") {
    auto array = nlohmann::ordered_json::array();
    for (const auto& item : list) {
      bool stopped = item.status == container::Status::kStopped;
      array.push_back({{"ociVersion", item.state.oci_version},
                       {"id", item.state.id},
                       {"pid", stopped ? 0 : item.state.pid},
                       {"status", container::to_text(item.status)},
                       {"bundle", item.state.bundle},
                       {"rootfs", item.state.rootfs},
                       {"created", rfc3339(item.state.created_at)},
                       {"owner", owner_name(item.state.owner_uid)}});
    }
    return json_line(array);
  }
  std::vector<std::vector<std::string>> rows{{"ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"}};
  for (const auto& item : list) {
    bool stopped = item.status == container::Status::kStopped;
    rows.push_back({item.state.id, std::to_string(stopped ? 0 : item.state.pid),
                    std::string(container::to_text(item.status)), item.state.bundle,
                    rfc3339(item.state.created_at), owner_name(item.state.owner_uid)});
  }
  return format_table(rows);
}

/// The containers whose ids `pattern` (regex(7), extended) matches somewhere.
Result<std::vector<std::string>> find_matching(OciRuntime runtime, const std::string& pattern) {
  regex_t regex;
  if (::regcomp(&regex, pattern.c_str(), REG_EXTENDED | REG_NOSUB) != 0)
    return invalid_error("--regex", pattern, "is no regular expression");
  ScopeExit free_regex([&] { ::regfree(&regex); });
  LAYERFS_ASSIGN(auto list, runtime.list());
  std::vector<std::string> ids;
  for (const auto& item : list)
    if (::regexec(&regex, item.state.id.c_str(), 0, nullptr, 0) == 0) ids.push_back(item.state.id);
  return ids;
}

/// `action` on the container `id`, or on all that it matches as a regular expression; the first error counts,
/// and the others are tried all the same.
template <class Action>
void for_each_named(OciTool& tool, const std::string& id, bool is_regex, const Action& action) {
  std::vector<std::string> ids{id};
  if (is_regex) {
    auto found = find_matching(OciRuntime(tool.root), id);
    if (!found) return tool.fail(found.error());
    ids = std::move(*found);
  }
  for (const auto& name : ids)
    if (auto done = action(OciRuntime(tool.root), name); !done) tool.fail(done.error());
}

template <class T>
void finish(OciTool& tool, const Result<T>& result) {
  if (!result) tool.fail(result.error());
}

void add_lifecycle(CLI::App& app, OciTool& tool) {
  auto request = std::make_shared<CreateRequest>();
  CLI::App* create = app.add_subcommand("create", "Create a container; its process waits for start");
  add_create_options(*create, *request);
  create->callback([request, &tool] {
    if (auto chosen = choose_cgroup_manager(tool, *request); !chosen) return tool.fail(chosen.error());
    finish(tool, OciRuntime(tool.root).create(*request));
  });

  struct RunOptions {
    CreateRequest request;
    bool detach = false;
    bool keep = false;
  };
  auto options = std::make_shared<RunOptions>();
  CLI::App* run = app.add_subcommand("run", "Create and start a container, wait for it and delete it");
  add_create_options(*run, options->request);
  run->add_flag("-d,--detach", options->detach, "Return once it runs");
  run->add_flag("--keep", options->keep, "Do not delete it when it ends");
  run->callback([options, &tool] {
    if (auto chosen = choose_cgroup_manager(tool, options->request); !chosen)
      return tool.fail(chosen.error());
    auto wait = options->detach ? OciRuntime::Wait::kDetached
                : options->keep ? OciRuntime::Wait::kKeep
                                : OciRuntime::Wait::kForeground;
    auto end = OciRuntime(tool.root).run(options->request, wait);
    if (!end) return tool.fail(end.error());
    if (!end->message.empty()) tool.log.error(end->message);
    tool.status = end->status;
  });

  auto id = std::make_shared<std::string>();
  CLI::App* start = app.add_subcommand("start", "Start the process of a created container");
  start->add_option("ID", *id, "Container id")->required();
  start->callback([id, &tool] { finish(tool, OciRuntime(tool.root).start(*id)); });

  struct KillOptions {
    std::string id;
    std::string signal = "TERM";
    bool all = false;
    bool regex = false;
  };
  auto kill_options = std::make_shared<KillOptions>();
  CLI::App* kill = app.add_subcommand("kill", "Send a signal to a container's init");
  kill->add_option("ID", kill_options->id, "Container id")->required();
  kill->add_option("SIGNAL", kill_options->signal, "Name or number; TERM where none is given");
  kill->add_flag("-a,--all", kill_options->all, "To every process of the container");
  kill->add_flag("-r,--regex", kill_options->regex,
                 "ID is a regular expression: every container that it matches");
  kill->callback([kill_options, &tool] {
    auto number = container::parse_signal(kill_options->signal);
    if (!number) return tool.fail(number.error());
    auto target = kill_options->all ? OciRuntime::Target::kAll : OciRuntime::Target::kInit;
    for_each_named(
        tool, kill_options->id, kill_options->regex,
        [&](OciRuntime runtime, const std::string& name) { return runtime.kill(name, *number, target); });
  });

  struct DeleteOptions {
    std::string id;
    bool force = false;
    bool regex = false;
  };
  auto delete_options = std::make_shared<DeleteOptions>();
  CLI::App* remove = app.add_subcommand("delete", "Delete a stopped container");
  remove->add_option("ID", delete_options->id, "Container id")->required();
  remove->add_flag("-f,--force", delete_options->force, "Kill it first where it runs");
  remove->add_flag("-r,--regex", delete_options->regex,
                   "ID is a regular expression: every container that it matches");
  remove->callback([delete_options, &tool] {
    auto force = delete_options->force ? OciRuntime::Force::kYes : OciRuntime::Force::kNo;
    for_each_named(tool, delete_options->id, delete_options->regex,
                   [&](OciRuntime runtime, const std::string& name) { return runtime.remove(name, force); });
  });
}

void add_queries(CLI::App& app, OciTool& tool) {
  auto id = std::make_shared<std::string>();
  auto add = [&](const char* name, const char* help, const auto& action) {
    CLI::App* command = app.add_subcommand(name, help);
    command->add_option("ID", *id, "Container id")->required();
    command->callback([id, &tool, action] { action(OciRuntime(tool.root), *id); });
    return command;
  };
  add("state", "Print a container's state as JSON", [&tool](OciRuntime runtime, const std::string& name) {
    auto text = runtime.state(name);
    if (!text) return tool.fail(text.error());
    finish(tool, print(*text + '\n'));
  });
  add("pause", "Freeze a container",
      [&tool](OciRuntime runtime, const std::string& name) { finish(tool, runtime.pause(name)); });
  add("resume", "Thaw a container",
      [&tool](OciRuntime runtime, const std::string& name) { finish(tool, runtime.resume(name)); });

  auto ps_format = std::make_shared<std::string>("table");
  CLI::App* ps = add("ps", "List a container's processes by their pids on the host",
                     [&tool, ps_format](OciRuntime runtime, const std::string& name) {
                       auto list = runtime.processes(name);
                       if (!list) return tool.fail(list.error());
                       std::string text = *ps_format == "json" ? json_line(nlohmann::json(*list)) : "PID\n";
                       if (*ps_format != "json")
                         for (pid_t pid : *list) text += std::to_string(pid) + '\n';
                       finish(tool, print(text));
                     });
  ps->add_option("-f,--format", *ps_format, "table or json")->check(CLI::IsMember({"table", "json"}));

  struct ListOptions {
    std::string format = "table";
    bool quiet = false;
  };
  auto options = std::make_shared<ListOptions>();
  CLI::App* list = app.add_subcommand("list", "List containers");
  list->add_option("-f,--format", options->format, "table or json")->check(CLI::IsMember({"table", "json"}));
  list->add_flag("-q,--quiet", options->quiet, "Ids only");
  list->callback([options, &tool] {
    auto found = OciRuntime(tool.root).list();
    if (!found) return tool.fail(found.error());
    auto text = list_text(*found, options->format, options->quiet);
    if (!text) return tool.fail(text.error());
    finish(tool, print(*text));
  });
}

void add_documents(CLI::App& app, OciTool& tool) {
  struct Options {
    std::string bundle = ".";
    std::string file = "config.json";
    bool rootless = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* spec = app.add_subcommand("spec", "Write a config.json to start from");
  spec->add_option("-b,--bundle", options->bundle, "Where to write it");
  spec->add_option("-f,--file", options->file, "Its name");
  spec->add_flag("--rootless", options->rootless, "For a user without privilege");
  spec->callback([options, &tool] {
    std::string path = options->bundle + '/' + options->file;
    std::string text = default_config({options->rootless, ::geteuid(), ::getegid()});
    auto fd = open_file(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (!fd) return tool.fail(fd.error());
    finish(tool, write_full(fd->get(), std::as_bytes(std::span(text))));
  });
  CLI::App* feature_list = app.add_subcommand("features", "Print what this runtime can do, as JSON");
  feature_list->callback([&tool] { finish(tool, print(features())); });
}

void add_exec(CLI::App& app, OciTool& tool) {
  struct Options {
    ExecRequest request;
    std::vector<std::string> args;
  };
  auto options = std::make_shared<Options>();
  CLI::App* exec = app.add_subcommand("exec", "Run one more process in a running container");
  ExecRequest& request = options->request;
  exec->add_option("-p,--process", request.process_file, "The process as JSON");
  exec->add_option("-e,--env", request.env, "NAME=VALUE")->allow_extra_args(false);
  exec->add_option("--cwd", request.cwd, "Working directory");
  exec->add_option("-u,--user", request.user, "UID[:GID]");
  exec->add_option("-c,--cap", request.capabilities, "One more capability")->allow_extra_args(false);
  exec->add_option("--cgroup", request.cgroup, "A group below the container's, to join instead");
  exec->add_option("--pid-file", request.pid_file, "Where to write the process's pid");
  exec->add_option("--console-socket", request.console_socket, "Unix socket that gets the terminal's master");
  exec->add_option("--preserve-fds", request.preserve_fds, "Pass so many descriptors from 3 on");
  exec->add_flag("-t,--tty", request.terminal, "With a terminal");
  exec->add_flag("-d,--detach", request.detach, "Return once it runs");
  exec->add_flag("--no-new-privs", request.no_new_privileges, "Set no_new_privs");
  exec->add_option("--apparmor", request.apparmor_profile,
                   "Profile of AppArmor, in place of the container's");
  exec->add_option("--process-label", request.selinux_label, "Label of SELinux, in place of the container's");
  exec->add_option("-g,--additional-gids", request.additional_gids, "One more group")
      ->delimiter(',')
      ->allow_extra_args(false);
  exec->add_flag("--ignore-paused", request.ignore_paused, "In a paused container: runs once it is resumed");
  exec->add_option("ID", request.id, "Container id")->required();
  exec->add_option("COMMAND", options->args, "Program and arguments");
  exec->positionals_at_end();
  exec->prefix_command(false);
  exec->callback([options, &tool] {
    if (!options->args.empty()) options->request.args = options->args;
    auto status = OciRuntime(tool.root).exec(options->request);
    if (!status) return tool.fail(status.error(), 255);
    tool.status = *status;
  });
}

}  // namespace

void OciTool::fail(const Error& error, int exit_status) {
  log.error(error.message());
  status = exit_status;
}

void add_oci_commands(CLI::App& app, OciTool& tool) {
  add_lifecycle(app, tool);
  add_queries(app, tool);
  add_exec(app, tool);
  add_update(app, tool);
  add_events(app, tool);
  add_documents(app, tool);
}

}  // namespace layerfs::tools
