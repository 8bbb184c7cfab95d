// SPDX-License-Identifier: Apache-2.0
// layerfs-oci: the OCI runtime's command line. A thin main: options, one function a command, the exit status.
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "fs/base/log.h"
#include "fs/base/process_start.h"
#include "runtime/container/state_store.h"
#include "runtime/sys/systemd_manager.h"
#include "tools/io.h"
#include "tools/oci_commands.h"

namespace {

int run(int argc, char** argv) {
  layerfs::tools::OciTool tool;
  tool.root = layerfs::container::StateStore::default_root();
  CLI::App app("layerfs-oci: an OCI runtime");
  app.name("layerfs-oci");
  app.require_subcommand(1);
  app.set_version_flag("-v,-V,--version", [] {
    // The last line as crun has it: what this build can do.
    return fmt::format("layerfs-oci version {}\nspec: 1.3.0\n{}+CAP +SECCOMP +EBPF", LAYERFS_VERSION,
                       layerfs::sys::has_systemd_support() ? "+SYSTEMD " : "");
  });
  app.add_option("--root", tool.root, "Directory of the containers' state");
  // Before any command: what could not be logged later is said now.
  app.add_option_function<std::string>(
      "--log",
      [&](const std::string& value) {
        if (auto opened = tool.log.open(value); !opened) {
          tool.fail(opened.error());
          throw CLI::RuntimeError(tool.status);
        }
      },
      "File for errors");
  std::string log_format = "text";
  app.add_option("--log-format", log_format, "text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->each([&](const std::string& value) { tool.log.json = value == "json"; });
  app.add_flag_callback("--debug", [] { layerfs::set_log_level(layerfs::LogLevel::kDebug); }, "Log more");
  app.add_option("--cgroup-manager", tool.cgroup_manager, "cgroupfs, systemd or disabled");
  app.add_flag_callback(
      "--systemd-cgroup", [&] { tool.cgroup_manager = "systemd"; }, "The same as --cgroup-manager=systemd");
  app.add_option("--rootless", tool.rootless, "true: a limit that this user may not set is a warning")
      ->check(CLI::IsMember({"auto", "true", "false"}));
  layerfs::tools::add_oci_commands(app, tool);
  try {
    app.parse(argc, argv);
  } catch (const CLI::RuntimeError&) {
    return tool.status;
  } catch (const CLI::ParseError& error) {
    return layerfs::tools::end_parsing("layerfs-oci", app, error);
  }
  return tool.status;
}

}  // namespace

int main(int argc, char** argv) {
  layerfs::begin_process();
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    return layerfs::tools::report_exception("layerfs-oci", error);
  }
}
