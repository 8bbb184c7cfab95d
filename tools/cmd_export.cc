// SPDX-License-Identifier: Apache-2.0
#include "tools/cmd_export.h"

#include <memory>
#include <string>

#include "fs/image/exporter.h"
#include "fs/store/store.h"
#include "tools/cmd_interrupt.h"
#include "tools/cmd_progress.h"
#include "tools/cmd_pull.h"
#include "tools/cmd_store_access.h"

namespace layerfs::tools {

namespace {

struct ExportArguments {
  std::string reference;
  std::string destination;
  std::string compression;
  int level = 0;
  AccessArguments access;
  bool quiet = false;
};

Result<void> run_export(const Tool& tool, const ExportArguments& arguments, const InterruptWatch* interrupt) {
  image::ExportOptions options;
  ProgressLine line(arguments.quiet ? ProgressLine::Shown::kNever : ProgressLine::Shown::kWhereTerminal);
  options.progress = [&](const image::ExportProgress& progress) -> Result<void> {
    line.draw(progress.bytes_done, progress.bytes_total, {});
    if (interrupt == nullptr) return {};
    return interrupt->check();
  };
  bool has_access = !arguments.access.creds.empty() || !arguments.access.auth_file.empty() ||
                    !arguments.access.tls_verify.empty();
  if (has_access && !arguments.destination.starts_with("docker://"))
    return invalid_error("--creds, --authfile, --tls-verify", {}, "only with docker://");
  LAYERFS_ASSIGN(options.access, make_access(arguments.access, interrupt));
  options.level = arguments.level;
  if (!arguments.compression.empty()) {
    LAYERFS_ASSIGN(options.compression, image::parse_compression(arguments.compression));
  }
  LAYERFS_ASSIGN(auto store, open_store(tool, store::StoreAccess::kWrite));
  // gc must not take away what is being read.
  LAYERFS_ASSIGN(auto lease, store->lease());
  LAYERFS_ASSIGN(auto image, store::get_image_by_name(*store, arguments.reference));
  return image::export_image(*store, image, arguments.destination, options);
}

}  // namespace

void add_export_commands(CLI::App& app, Tool& tool) {
  auto* command = app.add_subcommand("export", "Write an image to a layout, an archive, a registry or a tar");
  auto arguments = std::make_shared<ExportArguments>();
  command->add_option("image", arguments->reference, "Name or id of the image")->required();
  command
      ->add_option("destination", arguments->destination,
                   "oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:REF], docker://REF for a "
                   "registry, or\n"
                   "tar:FILE for the merged tree (tar:- for standard output)")
      ->required();
  command
      ->add_option(
          "--compression-format", arguments->compression,
          "Of the layers, with tar: of the file; by default gzip for oci and oci-archive, as they came for\n"
          "docker://, none for others")
      ->check(CLI::IsMember({"gzip", "zstd", "none"}));
  command->add_option("--compression-level", arguments->level, "gzip: 1 to 9, zstd: 1 to 22; 0: the default")
      ->check(CLI::Range(0, 22));
  add_access_options(*command, arguments->access);
  command->add_flag("-q,--quiet", arguments->quiet, "No progress line");
  command->callback([arguments, &tool] {
    // Standard output may make the command wait for ever for its reader, and has nothing to clean up.
    if (arguments->destination == "tar:-") return finish(tool, run_export(tool, *arguments, nullptr));
    InterruptWatch interrupt;
    auto done = run_export(tool, *arguments, &interrupt);
    finish(tool, done);
    if (!done) interrupt.end_if_interrupted();
  });
}

}  // namespace layerfs::tools
