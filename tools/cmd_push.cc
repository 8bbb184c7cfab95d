// SPDX-License-Identifier: Apache-2.0
#include "tools/cmd_push.h"

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <string_view>

#include "fs/base/sys_file.h"
#include "fs/image/registry_push.h"
#include "fs/store/store.h"
#include "tools/cmd_interrupt.h"
#include "tools/cmd_progress.h"
#include "tools/cmd_pull.h"
#include "tools/cmd_store_access.h"

namespace layerfs::tools {

namespace {

struct PushArguments {
  std::string image;
  std::string destination;
  std::string compression;
  int level = 0;
  std::string digest_file;
  AccessArguments access;
  bool quiet = false;
};

/// "oci:DIR" would read as the tag DIR of docker.io/library/oci.
Result<void> refuse_other_transports(std::string_view destination) {
  constexpr std::array<std::string_view, 7> kOthers{
      "oci:", "oci-archive:", "docker-archive:", "docker-daemon:", "dir:", "containers-storage:", "tar:"};
  auto is_this = [&](std::string_view transport) { return destination.starts_with(transport); };
  if (std::ranges::none_of(kOthers, is_this)) return {};
  return invalid_error("push to", destination, "no registry; `layerfs export` writes layouts and archives");
}

/// Where the image goes: what was asked for, else the registry of its name.
Result<registry::Reference> find_destination(const PushArguments& arguments,
                                             const store::ImageRecord& image) {
  std::string_view text = arguments.destination;
  if (!text.empty()) {
    LAYERFS_TRY(refuse_other_transports(text));
    if (text.starts_with(kRegistryTransport)) text.remove_prefix(kRegistryTransport.size());
    return registry::parse_reference(text, registry::ShortNames::kDockerHub);
  }
  // A name that was typed whole is meant as it is; a short one is the image's own whole name.
  auto reference = registry::parse_reference(arguments.image, registry::ShortNames::kRefused);
  if (!reference && !is_image_id(arguments.image))
    reference = registry::parse_reference(image.reference, registry::ShortNames::kRefused);
  if (!reference || reference->host == "localhost")
    return invalid_error("push", arguments.image,
                         "its name has no registry: say where it goes, `layerfs push IMAGE HOST/NAME`");
  return reference;
}

Result<void> run_push(const Tool& tool, const PushArguments& arguments, const InterruptWatch& interrupt) {
  image::ExportOptions options;
  LAYERFS_ASSIGN(options.access, make_access(arguments.access, &interrupt));
  options.level = arguments.level;
  if (!arguments.compression.empty()) {
    LAYERFS_ASSIGN(options.compression, image::parse_compression(arguments.compression));
  }
  LAYERFS_ASSIGN(auto store, open_store(tool, store::StoreAccess::kWrite));
  // gc must not take away what is being read.
  LAYERFS_ASSIGN(auto lease, store->lease());
  LAYERFS_ASSIGN(auto image, store::get_image_by_name(*store, arguments.image));
  LAYERFS_ASSIGN(auto reference, find_destination(arguments, image));
  Result<image::PushedImage> pushed;
  {
    ProgressLine line(arguments.quiet ? ProgressLine::Shown::kNever : ProgressLine::Shown::kWhereTerminal);
    options.progress = [&](const image::ExportProgress& progress) -> Result<void> {
      line.draw(progress.bytes_done, progress.bytes_total, " to " + reference.name());
      return interrupt.check();
    };
    pushed = image::push_image(*store, image, reference, options);
  }
  if (!pushed) return with_context(pushed.error(), "push to", reference.str());
  // As `podman push --digestfile`: the digest alone, without a newline.
  if (!arguments.digest_file.empty())
    LAYERFS_TRY(write_file_atomic(arguments.digest_file, pushed->manifest.str(), 0644));
  return print(pushed->manifest.str() + '\n');
}

}  // namespace

void add_push_commands(CLI::App& app, Tool& tool) {
  auto arguments = std::make_shared<PushArguments>();
  CLI::App* command = app.add_subcommand("push", "Send an image to a registry and print its digest there");
  command->add_option("IMAGE", arguments->image, "Name or id of the image")->required();
  command->add_option("DEST", arguments->destination,
                      "[docker://]HOST[:PORT]/NAME[:TAG][@DIGEST] (default: the image's own name)");
  command
      ->add_option(
          "--compression,--compression-format", arguments->compression,
          "Of the layers: gzip, zstd or none; by default each as it came, and gzip where it came with none")
      ->check(CLI::IsMember({"gzip", "zstd", "none"}));
  command->add_option("--compression-level", arguments->level, "gzip: 1 to 9, zstd: 1 to 22; 0: the default")
      ->check(CLI::Range(0, 22));
  command->add_option("--digestfile", arguments->digest_file, "File to write the manifest's digest to");
  add_access_options(*command, arguments->access);
  command->add_flag("-q,--quiet", arguments->quiet, "No progress line");
  command->callback([arguments, &tool] {
    InterruptWatch interrupt;
    auto done = run_push(tool, *arguments, interrupt);
    finish(tool, done);
    if (!done) interrupt.end_if_interrupted();
  });
}

}  // namespace layerfs::tools
