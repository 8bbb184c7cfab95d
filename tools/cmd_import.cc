// SPDX-License-Identifier: Apache-2.0
#include "tools/cmd_import.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "fs/image/importer.h"
#include "fs/image/manifest.h"
#include "fs/store/store.h"
#include "tools/cmd_interrupt.h"
#include "tools/cmd_progress.h"
#include "tools/cmd_pull.h"

namespace layerfs::tools {

namespace {

struct ImportArguments {
  std::string source;
  std::string name;
  std::string platform;
  AccessArguments access;
  image::ImportLimits limits;
  bool quiet = false;
};

Result<store::ImageRecord> run_import(const Tool& tool, const ImportArguments& arguments,
                                      const InterruptWatch& interrupt) {
  image::ImportOptions options;
  options.name = arguments.name;
  options.limits = arguments.limits;
  LAYERFS_ASSIGN(options.access, make_access(arguments.access, &interrupt));
  if (!arguments.platform.empty()) {
    LAYERFS_ASSIGN(image::Platform platform, image::parse_platform(arguments.platform));
    options.platform_os = platform.os;
    options.platform_architecture = platform.architecture;
    options.platform_variant = platform.variant;
  }
  LAYERFS_ASSIGN(auto store, store::Store::open(tool.store_root, store::StoreAccess::kWrite));
  ProgressLine line(arguments.quiet ? ProgressLine::Shown::kNever : ProgressLine::Shown::kWhereTerminal);
  options.progress = [&](const image::ImportProgress& progress) {
    std::size_t layer = std::min(progress.layers_done + 1, progress.layers_total);
    line.draw(progress.bytes_done, progress.bytes_total,
              fmt::format(", layer {} of {}", layer, progress.layers_total));
    return interrupt.check();
  };
  return image::import_image(*store, arguments.source, options);
}

}  // namespace

void add_import_commands(CLI::App& app, Tool& tool) {
  auto arguments = std::make_shared<ImportArguments>();
  CLI::App* command = app.add_subcommand("import", "Import an image into the store and print its id");
  command
      ->add_option("SOURCE", arguments->source,
                   "docker://REF, oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:REF], "
                   "tar:FILE, dir:PATH, or - "
                   "for a tar on standard input")
      ->required();
  command->add_option("--name", arguments->name,
                      "Reference to give the image (default: what the source says)");
  add_access_options(*command, arguments->access);
  command->add_option("--platform", arguments->platform,
                      "OS/ARCHITECTURE[/VARIANT] (default: this machine's)");
  command
      ->add_option("--limit-layer-size", arguments->limits.layer_bytes,
                   "Refuse a layer with more uncompressed bytes (k, M, G, T)")
      ->transform(CLI::AsSizeValue(false))
      ->capture_default_str();
  command
      ->add_option("--limit-entries", arguments->limits.entries,
                   "Refuse a layer with more entries, and an image with more files")
      ->check(CLI::Range(std::uint64_t{1}, UINT64_MAX, "a positive number"))
      ->capture_default_str();
  command
      ->add_option("--limit-ratio", arguments->limits.expansion,
                   "Refuse a layer above 100 MiB that expands more than so many times")
      ->check(CLI::Range(std::uint64_t{1}, UINT64_MAX, "a positive number"))
      ->capture_default_str();
  command
      ->add_option("--limit-implied-directories", arguments->limits.implied_directories,
                   "Refuse a layer whose entries imply more directories that none of them makes")
      ->capture_default_str();
  command
      ->add_option("--limit-metadata", arguments->limits.metadata_bytes,
                   "Refuse a layer with more bytes of names, links and extended attributes (k, M, G, T)")
      ->transform(CLI::AsSizeValue(false))
      ->capture_default_str();
  command
      ->add_option("--limit-zstd-window", arguments->limits.zstd_window,
                   "Refuse zstd whose window, memory of each decompressor, is larger (k, M, G; 2G at most)")
      ->transform(CLI::AsSizeValue(false))
      ->capture_default_str();
  command
      ->add_option("--limit-names", arguments->limits.names, "Refuse a source with more names for the image")
      ->capture_default_str();
  command->add_flag("-q,--quiet", arguments->quiet, "No progress bar");
  command->callback([arguments, &tool] {
    InterruptWatch interrupt;
    auto imported = run_import(tool, *arguments, interrupt);
    if (!imported) {
      tool.status = report_error(tool, imported.error());
      interrupt.end_if_interrupted();
      return;
    }
    if (auto printed = print(imported->config.hex() + "\n"); !printed)
      tool.status = report_error(tool, printed.error());
  });
}

}  // namespace layerfs::tools
