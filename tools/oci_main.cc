// SPDX-License-Identifier: Apache-2.0
// layerfs-oci: the OCI runtime's command line. A thin main: options, one function a command, the exit status.
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "tools/io.h"

namespace {

int run(int argc, char** argv) {
  CLI::App app("layerfs-oci: an OCI runtime");
  app.name("layerfs-oci");
  app.set_version_flag("--version",
                       [] { return fmt::format("layerfs-oci version {}\nspec: 1.3.0", LAYERFS_VERSION); });
  app.require_subcommand(0, 1);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {  // --help, --version
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    app.exit(error);
    return layerfs::tools::kExitUsage;
  }
  fmt::print("{}", app.help());
  return layerfs::tools::kExitUsage;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "layerfs-oci: {}\n", error.what());
    return layerfs::tools::kExitError;
  }
}
