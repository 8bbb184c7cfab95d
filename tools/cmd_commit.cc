// SPDX-License-Identifier: Apache-2.0
#include "tools/cmd_commit.h"

#include <fmt/format.h>

#include <memory>
#include <optional>
#include <string>

#include "fs/base/log.h"
#include "fs/base/process_start.h"
#include "fs/base/sys_file.h"
#include "fs/image/commit.h"
#include "fs/mount/control.h"
#include "fs/mount/mount_table.h"
#include "fs/store/store.h"
#include "fs/upper/delta_upper.h"
#include "runtime/run/write_back.h"
#include "tools/cmd_store_access.h"

namespace layerfs::tools {

namespace {

struct CommitArguments {
  std::string subject;
  std::string reference;
  image::CommitOptions options;
  bool quiet = false;
};

/// A mount point counts first, then names and ids of uppers.
Result<store::ContainerRecord> find_subject(store::Store& store, const std::string& subject) {
  if (auto path = real_path(subject)) {
    LAYERFS_ASSIGN(auto mount, mount::find_mount(*path));
    if (mount) {
      LAYERFS_ASSIGN(auto container, store.find_container(mount::source_name(*mount)));
      if (!container) return invalid_error("commit", subject, "mounted read-only, or from another store");
      return *container;
    }
  }
  LAYERFS_ASSIGN(auto container, find_container_or_upper(store, subject));
  if (!container) return invalid_error("commit", subject, "no such mount, upper or container");
  return *container;
}

Result<store::ImageRecord> run_commit(const Tool& tool, const CommitArguments& arguments) {
  LAYERFS_ASSIGN(auto store, open_store(tool, store::StoreAccess::kWrite));
  LAYERFS_ASSIGN(store::ContainerRecord container, find_subject(*store, arguments.subject));
  std::string directory = store->container_dir(container.id);
  // Before the mount is held still, for then what is written back would wait for the end of the commit.
  if (auto written = run::write_back(tool.store_root, container.id); !written)
    log_warning("what is changed through mappings and not synced may be missing: {}",
                written.error().message());
  // A live mount holds changes back until `frozen` is closed. Where nothing is mounted the delta is opened
  // for writing, which takes its lock: nobody mounts it while it is read.
  std::optional<HeldLog> held;  // until it is: standard error may be a file there
  LAYERFS_ASSIGN(Fd frozen, mount::freeze_upper(directory));
  if (frozen) held.emplace();
  upper::DeltaOptions options;
  options.read_only = static_cast<bool>(frozen);
  LAYERFS_ASSIGN(auto upper, upper::open_delta(directory, options));
  LAYERFS_ASSIGN(auto lower, store->get_tree(container.layers));
  image::CommitOptions commit = arguments.options;
  if (frozen) commit.check_unchanged = [&] { return mount::check_frozen(frozen); };
  return image::commit_upper(*store, container, *lower, *upper, arguments.reference, commit);
}

Result<void> print_commit(const CommitArguments& arguments, const store::ImageRecord& image) {
  if (!arguments.quiet)
    write_standard_error(fmt::format("{}: layer {}, {}\n", image.reference, image.layers.back().diff_id.str(),
                                     human_size(image.layers.back().blob_size)));
  return print(image.config.hex() + '\n');
}

}  // namespace

void add_commit_commands(CLI::App& app, Tool& tool) {
  auto* command = app.add_subcommand("commit", "Make an image of a container's changes");
  auto arguments = std::make_shared<CommitArguments>();
  command
      ->add_option("subject", arguments->subject,
                   "A mount point of layerfs, or the name or id of an upper or container")
      ->required();
  command->add_option("image", arguments->reference, "Name of the new image")->required();
  command->add_option("-a,--author", arguments->options.author, "Author, for config and history");
  command->add_option("-m,--message", arguments->options.message, "Comment, for the history");
  command
      ->add_option(
          "-c,--change", arguments->options.changes,
          "An instruction on the config: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME\n"
          "or WORKDIR; may be given again")
      ->allow_extra_args(false);
  command->add_flag("-q,--quiet", arguments->quiet, "Print the new image's id only");
  command->callback([arguments, &tool] {
    auto image = run_commit(tool, *arguments);
    auto done = image ? print_commit(*arguments, *image) : std::unexpected(image.error());
    finish(tool, done);
  });
}

}  // namespace layerfs::tools
