// SPDX-License-Identifier: Apache-2.0
// layerfs: the command line. A thin main: options, one function a command, the exit status.
#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "fs/base/check.h"
#include "fs/base/log.h"
#include "fs/base/process_start.h"
#include "fs/fuse/fuse_server.h"
#include "fs/store/store.h"
#include "tools/cmd_commit.h"
#include "tools/cmd_export.h"
#include "tools/cmd_images.h"
#include "tools/cmd_import.h"
#include "tools/cmd_login.h"
#include "tools/cmd_mount.h"
#include "tools/cmd_pull.h"
#include "tools/cmd_push.h"
#include "tools/cmd_run.h"
#include "tools/cmd_store.h"
#include "tools/cmd_words.h"
#include "tools/io.h"

namespace {

using layerfs::tools::Tool;

/// The group of commands (`layerfs` itself, `layerfs store`...) that was given a word which is none of them.
const CLI::App* find_misled(const CLI::App& app) {
  for (const CLI::App* group : app.get_subcommands())
    if (const CLI::App* found = find_misled(*group)) return found;
  bool wants_command = app.get_require_subcommand_min() > 0 && app.get_subcommands().empty();
  return wants_command && !app.remaining().empty() ? &app : nullptr;
}

std::vector<std::string> commands_of(const CLI::App& group) {
  std::vector<std::string> names;
  for (const CLI::App* command : group.get_subcommands(nullptr)) {
    names.push_back(command->get_name());
    for (const auto& alias : command->get_aliases()) names.push_back(alias);
  }
  return names;
}

/// As git and Podman say it: the word, the nearest command, and where the others are listed.
void report_misled(const CLI::App& app, const CLI::App& group) {
  std::string path = &group == &app ? "layerfs" : "layerfs " + group.get_name();
  std::string word = group.remaining().front();
  auto nearest = layerfs::tools::find_nearest(word, commands_of(group));
  layerfs::write_standard_error(
      fmt::format("layerfs: '{}' is no {} of {}{}\n`{} --help` lists what there is\n", word,
                  word.starts_with('-') ? "option" : "command", path,
                  nearest ? fmt::format("; did you mean '{}'?", *nearest) : "", path));
}

int report_usage(const Tool& tool, const CLI::App& app, const CLI::ParseError& error) {
  int status = layerfs::tools::kExitUsage;
  const CLI::App* group = error.get_exit_code() == 0 ? nullptr : find_misled(app);  // 0: --help, --version
  if (group != nullptr)
    report_misled(app, *group);
  else
    status = layerfs::tools::end_parsing(tool.program, app, error);
  // `run` keeps the lower numbers for the container's own status, as podman-run(1).
  bool is_run = status == layerfs::tools::kExitUsage && app.got_subcommand("run");
  return is_run ? layerfs::tools::kExitNotStarted : status;
}

int run(int argc, char** argv) {
  Tool tool;
  tool.store_root = layerfs::store::default_store_root();
  CLI::App app("layerfs: an overlay file system layer engine with its own container runtime");
  app.name("layerfs");
  app.require_subcommand(1);
  app.set_version_flag("--version", [] {
    return fmt::format("layerfs {}\n{}", LAYERFS_VERSION, layerfs::fuse::libfuse_description());
  });
  app.add_option("--root", tool.store_root, "Store directory")
      ->envname("LAYERFS_ROOT")
      ->each([&tool](const std::string&) { tool.store_is_named = true; });
  app.add_option_function<std::string>(
         "--log-level",
         [](const std::string& text) {
           using layerfs::LogLevel;
           layerfs::set_log_level(text == "error"   ? LogLevel::kError
                                  : text == "info"  ? LogLevel::kInfo
                                  : text == "debug" ? LogLevel::kDebug
                                                    : LogLevel::kWarning);
         },
         "error, warning, info or debug")
      ->check(CLI::IsMember({"error", "warning", "info", "debug"}));
  layerfs::tools::add_import_commands(app, tool);
  layerfs::tools::add_pull_commands(app, tool);
  layerfs::tools::add_push_commands(app, tool);
  layerfs::tools::add_login_commands(app, tool);
  layerfs::tools::add_images_commands(app, tool);
  layerfs::tools::add_store_commands(app, tool);
  layerfs::tools::add_export_commands(app, tool);
  layerfs::tools::add_commit_commands(app, tool);
  layerfs::tools::add_mount_commands(app, tool);
  layerfs::tools::add_run_commands(app, tool);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return report_usage(tool, app, error);
  }
  return tool.status;
}

}  // namespace

int main(int argc, char** argv) {
  layerfs::begin_process();
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    return layerfs::tools::report_exception("layerfs", error);
  }
}
