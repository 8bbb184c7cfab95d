// SPDX-License-Identifier: Apache-2.0
// layerfs: the command line. A thin main: options, one function a command, the exit status.
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "fs/base/check.h"
#include "fs/base/log.h"
#include "fs/base/process_start.h"
#include "fs/fuse/fuse_server.h"
#include "fs/store/store.h"
#include "tools/cmd_commit.h"
#include "tools/cmd_export.h"
#include "tools/cmd_images.h"
#include "tools/cmd_import.h"
#include "tools/cmd_mount.h"
#include "tools/cmd_run.h"
#include "tools/cmd_store.h"
#include "tools/io.h"

namespace {

using layerfs::tools::Tool;

int run(int argc, char** argv) {
  Tool tool;
  tool.store_root = layerfs::store::default_store_root();
  CLI::App app("layerfs: an overlay file system layer engine with its own container runtime");
  app.name("layerfs");
  app.require_subcommand(1);
  app.set_version_flag("--version", [] {
    return fmt::format("layerfs {}\n{}", LAYERFS_VERSION, layerfs::fuse::libfuse_description());
  });
  app.add_option("--root", tool.store_root, "Store directory")->envname("LAYERFS_ROOT");
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
  layerfs::tools::add_images_commands(app, tool);
  layerfs::tools::add_store_commands(app, tool);
  layerfs::tools::add_export_commands(app, tool);
  layerfs::tools::add_commit_commands(app, tool);
  layerfs::tools::add_mount_commands(app, tool);
  layerfs::tools::add_run_commands(app, tool);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return layerfs::tools::end_parsing(tool.program, app, error);
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
