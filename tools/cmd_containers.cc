// SPDX-License-Identifier: Apache-2.0
#include "tools/cmd_containers.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <optional>
#include <vector>

#include "fs/base/log.h"
#include "fs/base/sys_file.h"
#include "fs/mount/container_dir.h"
#include "fs/store/store.h"
#include "runtime/container/oci_runtime.h"
#include "runtime/run/exit_file.h"
#include "runtime/run/labels_file.h"
#include "runtime/run/running_file.h"
#include "runtime/spec/image_defaults.h"
#include "runtime/sys/clone.h"
#include "tools/cmd_image_view.h"
#include "tools/cmd_store_access.h"

namespace layerfs::tools {

namespace {

constexpr int kDeathTimeout = 60'000;  // ms: the server may have much to write

Result<store::ContainerRecord> get_container(store::Store& store, const std::string& name) {
  LAYERFS_ASSIGN(auto found, store.find_container(name));
  if (!found || found->is_mount)
    return std::unexpected(Error{ErrorKind::kSystem, ENOENT, "container '" + name + "'", "does not exist"});
  return *found;
}

/// "running", "exited (3)", "created".
std::string status_text(const Tool& tool, const store::Store& store, const std::string& id, pid_t& pid) {
  auto running = run::find_running(tool.store_root, id);
  if (running && *running && (*running)->alive) {
    pid = (*running)->state.pid;
    return "running";
  }
  auto ended = run::read_exit(store.container_dir(id));
  if (!ended) return "created";
  return fmt::format("exited ({}){}", ended->status, ended->out_of_memory ? ", out of memory" : "");
}

Result<void> list_containers(const Tool& tool, bool all, bool as_json, bool quiet) {
  run::sweep_stale(tool.store_root);
  LAYERFS_ASSIGN(auto store, find_store(tool));
  std::vector<store::ContainerRecord> records;
  if (store) {
    LAYERFS_ASSIGN(records, store->list_containers());
  }
  Json array = Json::array();
  std::vector<std::vector<std::string>> rows{{"ID", "NAME", "IMAGE", "STATUS", "CREATED"}};
  for (const auto& record : records) {
    if (record.is_mount) continue;
    pid_t pid = 0;
    std::string status = status_text(tool, *store, record.id, pid);
    if (!all && status != "running") continue;
    rows.push_back(
        {record.id.substr(0, 12), record.name, record.image_reference, status, human_age(record.created_at)});
    array.push_back({{"id", record.id},
                     {"name", record.name},
                     {"image", record.image_reference},
                     {"status", status},
                     {"pid", pid},
                     {"created", record.created_at},
                     {"labels", run::read_labels(store->container_dir(record.id))}});
  }
  if (as_json) return print(json_text(array));
  if (!quiet) return print(format_table(rows));
  std::string text;
  for (std::size_t i = 1; i < rows.size(); ++i) text += rows[i][0] + '\n';
  return print(text);
}

/// The init of a running container, held; an empty Fd where it does not run.
Result<Fd> find_init(const Tool& tool, const store::ContainerRecord& record) {
  LAYERFS_ASSIGN(auto running, run::find_running(tool.store_root, record.id));
  if (!running || !running->alive || running->state.pid <= 0) return Fd();
  auto pidfd = sys::open_pidfd(running->state.pid);
  if (!pidfd) return Fd();
  LAYERFS_ASSIGN(auto start_time, sys::find_start_time(running->state.pid));
  if (!start_time || *start_time != running->state.start_time) return Fd();
  return pidfd;
}

/// One that ended meanwhile needs no signal any more.
Result<void> send_if_there(const Fd& init, int number) {
  auto sent = sys::send_signal(init.get(), number);
  if (!sent && sent.error().code == ESRCH) return {};
  return sent;
}

Result<void> kill_container(const Tool& tool, const std::string& name, const std::string& signal) {
  LAYERFS_ASSIGN(int number, container::parse_signal(signal));
  LAYERFS_ASSIGN(auto store, open_store(tool, store::StoreAccess::kRead));
  LAYERFS_ASSIGN(auto record, get_container(*store, name));
  LAYERFS_ASSIGN(Fd init, find_init(tool, record));
  if (!init) return invalid_error("container", record.name, "is not running");
  return sys::send_signal(init.get(), number);
}

/// Waits until the monitor has let go of the container's file: then everything is cleaned.
Result<void> wait_for_monitor(const Tool& tool, const store::ContainerRecord& record) {
  LAYERFS_ASSIGN(auto running, run::find_running(tool.store_root, record.id));
  if (!running || !running->alive) return {};
  auto monitor = sys::open_pidfd(running->state.monitor);
  if (!monitor) return {};
  // Where the file is still held, the process that was opened is its monitor, and not the next of that
  // number.
  LAYERFS_ASSIGN(running, run::find_running(tool.store_root, record.id));
  if (!running || !running->alive) return {};
  pollfd ended{monitor->get(), POLLIN, 0};
  if (::poll(&ended, 1, kDeathTimeout) > 0) return {};
  return system_error(ETIMEDOUT, "wait for container", record.name);
}

/// What the image says that ends its program (image-spec, config.md, "StopSignal").
Result<int> stop_signal(store::Store& store, const store::ContainerRecord& record) {
  LAYERFS_ASSIGN(std::string json, store.get_blob(record.image_config));
  LAYERFS_ASSIGN(auto config, spec::parse_image_defaults(json));
  if (config.stop_signal.empty()) return SIGTERM;
  auto number = container::parse_signal(config.stop_signal);
  if (!number) return with_context(number.error(), "StopSignal of image", record.image_reference);
  return number;
}

Result<void> stop_container(const Tool& tool, const std::string& name, int seconds) {
  LAYERFS_ASSIGN(auto store, open_store(tool, store::StoreAccess::kRead));
  LAYERFS_ASSIGN(auto record, get_container(*store, name));
  LAYERFS_ASSIGN(Fd init, find_init(tool, record));
  if (!init) {
    LAYERFS_ASSIGN(auto running, run::find_running(tool.store_root, record.id));
    if (running && running->alive && running->state.pid == 0)
      return invalid_error("stop container", record.name, "it is only just being made");
    return wait_for_monitor(tool, record);  // it has ended, or is just ending: as it was wanted
  }
  auto signal = stop_signal(*store, record);
  if (!signal) log_warning("{}; sending TERM", signal.error().message());
  LAYERFS_TRY(send_if_there(init, signal.value_or(SIGTERM)));
  pollfd ended{init.get(), POLLIN, 0};
  if (::poll(&ended, 1, seconds * 1000) == 0) LAYERFS_TRY(send_if_there(init, SIGKILL));
  return wait_for_monitor(tool, record);
}

Result<void> remove_container(const Tool& tool, const std::string& name, bool force) {
  run::sweep_stale(tool.store_root);
  LAYERFS_ASSIGN(auto store, open_store(tool, store::StoreAccess::kWrite));
  LAYERFS_ASSIGN(auto record, get_container(*store, name));
  LAYERFS_ASSIGN(Fd init, find_init(tool, record));
  if (init) {
    if (!force) return invalid_error("remove container", record.name, "it is running (--force kills it)");
    LAYERFS_TRY(send_if_there(init, SIGKILL));
  }
  LAYERFS_TRY(wait_for_monitor(tool, record));
  auto removed = store->remove_container(record.id);
  if (!removed && removed.error().code == ENOENT) return {};  // one of --rm: its monitor was faster
  if (!removed) return with_context(removed.error(), "remove container", record.name);
  return {};
}

Result<void> print_output(const Tool& tool, const std::string& name) {
  LAYERFS_ASSIGN(auto store, open_store(tool, store::StoreAccess::kRead));
  LAYERFS_ASSIGN(auto record, get_container(*store, name));
  auto fd = mount::open_container_file(store->container_dir(record.id), "output", O_RDONLY);
  if (!fd && fd.error().code == ENOENT)
    return invalid_error("logs of container", record.name, "none are kept: it did not run detached");
  if (!fd) return std::unexpected(fd.error());
  std::array<std::byte, 65536> buffer;
  for (;;) {
    LAYERFS_ASSIGN(std::size_t got, read_full(fd->get(), buffer));
    if (got == 0) return {};
    LAYERFS_TRY(write_full(STDOUT_FILENO, std::span(buffer).first(got)));
  }
}

struct NamesAndFlags {
  std::vector<std::string> names;
  bool force = false;
  int seconds = 10;
  std::string signal = "KILL";
};

}  // namespace

void add_container_commands(CLI::App& app, Tool& tool) {
  struct ListFlags {
    bool all = false;
    bool json = false;
    bool quiet = false;
  };
  auto flags = std::make_shared<ListFlags>();
  CLI::App* ps = app.add_subcommand("ps", "List containers");
  ps->add_flag("-a,--all", flags->all, "Those that do not run, too");
  ps->add_flag("--json", flags->json, "As JSON");
  ps->add_flag("-q,--quiet", flags->quiet, "Ids only");
  ps->callback(
      [flags, &tool] { finish(tool, list_containers(tool, flags->all, flags->json, flags->quiet)); });

  auto add = [&](const char* name, const char* help) {
    auto options = std::make_shared<NamesAndFlags>();
    CLI::App* command = app.add_subcommand(name, help);
    command->add_option("CONTAINER", options->names, "Name or id")->required();
    return std::pair{command, options};
  };
  {
    auto [command, options] = add("rm", "Remove containers");
    command->add_flag("-f,--force", options->force, "Kill those that run");
    command->callback([wanted = options, &tool] {
      for (const auto& name : wanted->names) finish(tool, remove_container(tool, name, wanted->force));
    });
  }
  {
    auto [command, options] =
        add("stop", "Stop containers: by the image's StopSignal (else TERM), then by KILL");
    command->add_option("-t,--time", options->seconds, "Seconds between the two")
        ->check(CLI::NonNegativeNumber);
    command->callback([wanted = options, &tool] {
      for (const auto& name : wanted->names) finish(tool, stop_container(tool, name, wanted->seconds));
    });
  }
  {
    auto [command, options] = add("kill", "Send a signal to containers");
    command->add_option("-s,--signal", options->signal, "Name or number");
    command->callback([wanted = options, &tool] {
      for (const auto& name : wanted->names) finish(tool, kill_container(tool, name, wanted->signal));
    });
  }
  auto [logs, options] = add("logs", "Print what a detached container wrote");
  logs->callback([wanted = options, &tool] {
    for (const auto& name : wanted->names) finish(tool, print_output(tool, name));
  });
}

}  // namespace layerfs::tools
