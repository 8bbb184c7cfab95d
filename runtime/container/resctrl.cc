// SPDX-License-Identifier: Apache-2.0
#include "runtime/container/resctrl.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <span>

#include "fs/base/log.h"
#include "fs/base/scope_exit.h"
#include "fs/base/sys_file.h"

namespace layerfs::container {

namespace {

/// The kernel's errno is EINVAL for nearly everything: it says more in a file.
std::unexpected<Error> explain(Error error, const plan::ResctrlPlan& plan, const char* field) {
  auto status = read_file(plan.mount_point + "/info/last_cmd_status", 4096);
  if (status && !status->starts_with("ok") && !status->empty()) {
    while (status->ends_with('\n')) status->pop_back();
    error.reason = errno_text(error.code) + " (" + *status + ')';
  }
  return with_context(std::move(error), "field", field);
}

Result<void> write_one(const std::string& path, std::string_view text) {
  LAYERFS_ASSIGN(Fd file, open_file(path, O_WRONLY));
  return write_full(file.get(), std::as_bytes(std::span(text)));
}

/// True where it was not there before.
Result<bool> make_group(const std::string& path) {
  if (::mkdir(path.c_str(), 0755) == 0) return true;
  if (errno == EEXIST) return false;
  return system_error(errno, "create directory", path);
}

Result<bool> make_class(const plan::ResctrlPlan& plan) {
  if (!plan.must_exist) return make_group(plan.directory);
  if (::access(plan.directory.c_str(), F_OK) != 0) return system_error(errno, "find", plan.directory);
  return false;
}

}  // namespace

Result<std::vector<std::string>> make_resctrl(const plan::ResctrlPlan& plan) {
  std::vector<std::string> made;
  ScopeExit undo([&] {
    if (auto removed = remove_resctrl(made); !removed) log_warning("{}", removed.error().message());
  });
  auto fresh = make_class(plan);
  if (!fresh) return explain(fresh.error(), plan, "linux.intelRdt.closID");
  if (*fresh) made.push_back(plan.directory);
  if (!*fresh && !plan.compared.empty()) {
    LAYERFS_ASSIGN(std::string now, read_file(plan.directory + "/schemata", std::size_t{1} << 20));
    if (!plan::schemata_match(plan.compared, now))
      return invalid_error("field", "linux.intelRdt",
                           "does not have the schemata of '" + plan.directory + "', which is there already");
  }
  LAYERFS_TRY(write_schemata(plan));
  if (!plan.monitor.empty()) {
    auto watched = make_group(plan.monitor);
    if (!watched) return explain(watched.error(), plan, "linux.intelRdt.enableMonitoring");
    made.insert(made.begin(), plan.monitor);
  }
  undo.release();
  // A class that the configuration names is left behind, for others (runtime-spec, config-linux.md).
  if (*fresh && !plan.is_containers) made.pop_back();
  return made;
}

Result<void> write_schemata(const plan::ResctrlPlan& plan) {
  if (plan.schemata.empty()) return {};
  auto written = write_one(plan.directory + "/schemata", plan.schemata);
  if (!written) return explain(written.error(), plan, "linux.intelRdt.schemata");
  return {};
}

Result<void> join_resctrl(const plan::ResctrlPlan& plan, pid_t pid) {
  // A monitoring group takes only tasks of the class that it is in.
  for (const auto* directory : {&plan.directory, &plan.monitor}) {
    if (directory->empty()) continue;
    auto joined = write_one(*directory + "/tasks", std::to_string(pid));
    if (!joined) return explain(joined.error(), plan, "linux.intelRdt");
  }
  return {};
}

Result<void> remove_resctrl(const std::vector<std::string>& directories) {
  for (const auto& directory : directories)
    if (::rmdir(directory.c_str()) != 0 && errno != ENOENT) return system_error(errno, "remove", directory);
  return {};
}

}  // namespace layerfs::container
