// SPDX-License-Identifier: Apache-2.0
#include "tools/cmd_import.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "fs/base/process_start.h"
#include "fs/image/importer.h"
#include "fs/image/manifest.h"
#include "fs/store/store.h"

namespace layerfs::tools {

namespace {

struct ImportArguments {
  std::string source;
  std::string name;
  std::string platform;
  image::ImportLimits limits;
  bool quiet = false;
};

/// One line on standard error, written over again; only where that is a terminal.
class ProgressBar {
 public:
  explicit ProgressBar(bool wanted) : shows_(wanted && ::isatty(STDERR_FILENO) == 1) {}
  ~ProgressBar() {
    if (drawn_) write_standard_error("\r\x1b[K");
  }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  bool shows() const { return shows_; }

  void draw(const image::ImportProgress& progress) {
    auto now = std::chrono::steady_clock::now();
    if (drawn_ && now - last_ < std::chrono::milliseconds(50)) return;
    last_ = now;
    drawn_ = true;
    std::string line = human_size(progress.bytes_done);
    if (progress.bytes_total > 0) {
      constexpr std::size_t kWidth = 30;
      double part =
          std::min(1.0, static_cast<double>(progress.bytes_done) / static_cast<double>(progress.bytes_total));
      auto filled = static_cast<std::size_t>(part * kWidth);
      line =
          fmt::format("[{}{}] {:3.0f}%  {} of {}", std::string(filled, '='),
                      std::string(kWidth - filled, ' '), part * 100, line, human_size(progress.bytes_total));
    }
    write_standard_error(fmt::format("\r\x1b[K{}, layer {} of {}", line,
                                     std::min(progress.layers_done + 1, progress.layers_total),
                                     progress.layers_total));
  }

 private:
  bool shows_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point last_;
};

Result<store::ImageRecord> run_import(const Tool& tool, const ImportArguments& arguments) {
  image::ImportOptions options;
  options.name = arguments.name;
  options.limits = arguments.limits;
  if (!arguments.platform.empty()) {
    LAYERFS_ASSIGN(image::Platform platform, image::parse_platform(arguments.platform));
    options.platform_os = platform.os;
    options.platform_architecture = platform.architecture;
    options.platform_variant = platform.variant;
  }
  LAYERFS_ASSIGN(auto store, store::Store::open(tool.store_root, store::StoreAccess::kWrite));
  ProgressBar bar(!arguments.quiet);
  if (bar.shows()) options.progress = [&bar](const image::ImportProgress& progress) { bar.draw(progress); };
  return image::import_image(*store, arguments.source, options);
}

}  // namespace

void add_import_commands(CLI::App& app, Tool& tool) {
  auto arguments = std::make_shared<ImportArguments>();
  CLI::App* command = app.add_subcommand("import", "Import an image into the store and print its id");
  command
      ->add_option(
          "SOURCE", arguments->source,
          "oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:REF], tar:FILE, dir:PATH, or - "
          "for a tar on standard input")
      ->required();
  command->add_option("--name", arguments->name,
                      "Reference to give the image (default: what the source says)");
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
    auto imported = run_import(tool, *arguments);
    if (!imported) {
      tool.status = report_error(tool, imported.error());
      return;
    }
    if (auto printed = print(imported->config.hex() + "\n"); !printed)
      tool.status = report_error(tool, printed.error());
  });
}

}  // namespace layerfs::tools
