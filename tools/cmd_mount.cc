// SPDX-License-Identifier: Apache-2.0
#include "tools/cmd_mount.h"

#include <fmt/format.h>
#include <unistd.h>

#include <ctime>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/log.h"
#include "fs/base/random.h"
#include "fs/base/sha256.h"
#include "fs/base/sys_file.h"
#include "fs/mount/mount.h"
#include "fs/mount/mount_options.h"
#include "fs/mount/mount_table.h"
#include "fs/store/store.h"
#include "tools/cmd_image_view.h"
#include "tools/cmd_pull.h"
#include "tools/cmd_store_access.h"

namespace layerfs::tools {
namespace {

struct MountArguments {
  std::string image;
  std::string mountpoint;
  std::string upper;
  std::vector<std::string> options;
  bool read_only = false;
  bool is_volatile = false;
  bool foreground = false;
  bool debug = false;
  bool json = false;
  PullArguments pull;
  std::string restart;  // empty: yes, unless something else says no
};

/// The upper that is to be shown as it is: nothing is made.
Result<store::ContainerRecord> get_read_only_upper(store::Store& store, const MountArguments& arguments,
                                                   const std::vector<Digest>& layers) {
  LAYERFS_ASSIGN(auto found, store.find_container(arguments.upper));
  if (!found || !found->is_mount) {
    auto missing = system_error(ENOENT, "mount read-only with upper", arguments.upper);
    missing.error().reason = "no such upper";
    return missing;
  }
  if (found->layers != layers)
    return invalid_error("mount with upper", arguments.upper,
                         fmt::format("it was made over other layers ('{}')", found->image_reference));
  return *found;
}

struct Upper {
  store::ContainerRecord record;
  bool is_new = false;
};

/// The upper named `name` over `image`, made if it is not there. An upper belongs to the layers that it was
/// made over: its inode numbers are theirs.
Result<Upper> get_upper(store::Store& store, const std::string& name, const store::ImageRecord& image,
                        std::vector<Digest> layers) {
  LAYERFS_ASSIGN(auto found, store.find_container(name));
  if (found && found->name == name) {
    if (!found->is_mount) return invalid_error("mount with upper", name, "it is a container's");
    if (found->layers != layers)
      return invalid_error(
          "mount with upper", name,
          fmt::format("it was made over other layers ('{}'); take another name with --upper, or "
                      "remove it with `layerfs upper rm`",
                      found->image_reference));
    return Upper{.record = *found, .is_new = false};
  }
  store::ContainerRecord upper;
  upper.id = random_hex(32);
  upper.name = name;
  upper.image_reference = image.reference;
  upper.image_manifest = image.manifest;
  upper.image_config = image.config;
  upper.chain = image.chain;
  upper.layers = std::move(layers);
  upper.created_at = std::time(nullptr);
  upper.is_mount = true;
  LAYERFS_TRY(store.add_container(upper));
  return Upper{.record = std::move(upper), .is_new = true};
}

Result<mount::MountFlags> mount_flags(const MountArguments& arguments) {
  mount::MountFlags flags;
  for (const auto& list : arguments.options) {
    LAYERFS_ASSIGN(flags, mount::apply_mount_options(flags, list));
  }
  flags.read_only |= arguments.read_only;
  flags.is_volatile |= arguments.is_volatile;
  if (flags.io_uring && arguments.restart == "yes")
    return invalid_error("mount option", "io_uring", "its server can't be replaced; leave out --restart=yes");
  return flags;
}

/// The source of a mount without an upper: the beginnings of its chain and of its store's digest, for there
/// is nothing else to name.
Result<std::string> read_only_source(const store::Store& store, const Digest& chain) {
  // One store has one name, by whichever path it was given.
  LAYERFS_ASSIGN(std::string root, real_path(store.root()));
  return fmt::format("{}{}.{}", mount::kSourcePrefix, chain.hex().substr(0, 16),
                     sha256(std::as_bytes(std::span(root))).hex().substr(0, 8));
}

struct Plan {
  mount::MountRequest request;
  bool made_upper = false;
};

/// The store is open only in here: the server opens it again, after its fork.
Result<Plan> make_plan(const Tool& tool, const MountArguments& arguments, const mount::MountFlags& flags) {
  auto access = flags.read_only ? store::StoreAccess::kRead : store::StoreAccess::kWrite;
  LAYERFS_ASSIGN(auto image, get_image_pulling(tool, arguments.image, arguments.pull, nullptr));
  LAYERFS_ASSIGN(auto store, open_store(tool, access));
  Plan plan;
  mount::MountRequest& request = plan.request;
  request.store_root = tool.store_root;
  for (const auto& layer : image.layers) request.layers.push_back(layer.diff_id);
  if (flags.read_only && arguments.upper.empty()) {
    LAYERFS_ASSIGN(request.fuse.source, read_only_source(*store, image.chain));
  } else {
    store::ContainerRecord record;
    if (flags.read_only) {
      LAYERFS_ASSIGN(record, get_read_only_upper(*store, arguments, request.layers));
    } else {
      const std::string& name = arguments.upper.empty() ? image.reference : arguments.upper;
      LAYERFS_ASSIGN(auto upper, get_upper(*store, name, image, request.layers));
      plan.made_upper = upper.is_new;
      record = std::move(upper.record);
    }
    request.upper_id = record.id;
    request.upper_dir = store->container_dir(record.id);
    request.fuse.source = fmt::format("{}{}", mount::kSourcePrefix, record.id);
  }
  request.is_volatile = flags.is_volatile;
  request.fuse.read_only = flags.read_only;
  // Root's mounts are seen by all, as any other file system's; a user's only where fuse.conf allows it.
  request.fuse.allow_other = flags.allow_other || ::geteuid() == 0;
  request.fuse.suid = flags.suid;
  request.fuse.dev = flags.dev;
  request.fuse.mount_flags = flags.mount_flags;
  request.fuse.ids = mount::current_id_view();
  request.fuse.debug = arguments.debug;
  // What a server that dies had taken off a ring can't be had again (fs/fuse/ring.h).
  request.fuse.outlives_server = arguments.restart != "no" && !flags.io_uring;
  request.fuse.io_uring = !request.fuse.outlives_server;
  return plan;
}

/// The first error is the one that counts; what is left of an upper shows in `layerfs upper ls`.
void remove_new_upper(const Tool& tool, const std::string& id) {
  auto store = store::Store::open(tool.store_root, store::StoreAccess::kWrite);
  if (!store) return log_warning("{}", store.error().message());
  if (auto removed = (*store)->remove_container(id); !removed) log_warning("{}", removed.error().message());
}

Result<void> run_mount(const Tool& tool, const MountArguments& arguments) {
  LAYERFS_ASSIGN(auto flags, mount_flags(arguments));
  LAYERFS_TRY(mount::check_mountpoint(arguments.mountpoint, tool.store_root));
  LAYERFS_ASSIGN(auto plan, make_plan(tool, arguments, flags));
  if (arguments.foreground) return mount::mount_in_foreground(plan.request, arguments.mountpoint);
  auto mounted = mount::mount_in_background(plan.request, arguments.mountpoint);
  if (!mounted && plan.made_upper) remove_new_upper(tool, plan.request.upper_id);
  return mounted;
}

/// What is shown of a mount of this store; nullopt where it is another's.
struct ShownMount {
  std::string image;
  std::string upper;  // empty: none
  MountEntry entry;
};
Result<std::optional<ShownMount>> show_mount(store::Store& store, const MountEntry& entry) {
  std::string name(mount::source_name(entry));
  LAYERFS_ASSIGN(auto container, store.find_container(name));
  if (container && container->id == name)
    return ShownMount{container->image_reference, container->name, entry};
  LAYERFS_ASSIGN(auto images, store.list_images());
  for (const auto& image : images) {
    LAYERFS_ASSIGN(std::string source, read_only_source(store, image.chain));
    if (source == entry.source)
      return ShownMount{image.reference.empty() ? image.config.hex() : image.reference, {}, entry};
  }
  return std::nullopt;
}

/// What is mounted here of this store.
Result<void> list_mounts(const Tool& tool, bool as_json) {
  LAYERFS_ASSIGN(auto store, find_store(tool));
  std::vector<MountEntry> entries;
  if (store) {
    LAYERFS_ASSIGN(entries, mount::list_mounts());
  }
  Json list = Json::array();
  std::vector<std::vector<std::string>> rows{{"IMAGE", "UPPER", "MOUNTED ON", "OPTIONS"}};
  for (const auto& entry : entries) {
    LAYERFS_ASSIGN(auto shown, show_mount(*store, entry));
    if (!shown) continue;
    rows.push_back({shown->image, shown->upper.empty() ? "-" : shown->upper, entry.path, entry.options});
    list.push_back({{"image", shown->image},
                    {"upper", shown->upper.empty() ? Json(nullptr) : Json(shown->upper)},
                    {"mountpoint", entry.path},
                    {"options", entry.options},
                    {"source", entry.source}});
  }
  return print(as_json ? json_text(list) : format_table(rows));
}

/// Where an upper is mounted in this mount namespace.
std::string mountpoint_of(const std::vector<MountEntry>& mounts, const std::string& id) {
  for (const auto& entry : mounts)
    if (mount::source_name(entry) == id) return entry.path;
  return {};
}

Result<void> list_uppers(const Tool& tool, bool as_json) {
  LAYERFS_ASSIGN(auto store, find_store(tool));
  std::vector<store::ContainerRecord> containers;
  if (store) {
    LAYERFS_ASSIGN(containers, store->list_containers());
  }
  LAYERFS_ASSIGN(auto mounts, mount::list_mounts());
  Json list = Json::array();
  std::vector<std::vector<std::string>> rows{{"NAME", "ID", "IMAGE", "CREATED", "MOUNTED ON"}};
  for (const auto& upper : containers) {
    if (!upper.is_mount) continue;
    std::string path = mountpoint_of(mounts, upper.id);
    rows.push_back({upper.name, upper.id.substr(0, 12), upper.image_reference, human_age(upper.created_at),
                    path.empty() ? "-" : path});
    list.push_back({{"name", upper.name},
                    {"id", upper.id},
                    {"image", upper.image_reference},
                    {"chain", upper.chain.str()},
                    {"created_at", upper.created_at},
                    {"directory", store->container_dir(upper.id)},
                    {"mountpoint", path.empty() ? Json(nullptr) : Json(path)}});
  }
  return print(as_json ? json_text(list) : format_table(rows));
}

Result<void> remove_upper(const Tool& tool, const std::string& name) {
  LAYERFS_ASSIGN(auto store, open_store(tool, store::StoreAccess::kWrite));
  LAYERFS_ASSIGN(auto found, find_container_or_upper(*store, name));
  if (!found) {
    auto missing = system_error(ENOENT, "remove upper", name);
    missing.error().reason = "no such upper";
    return missing;
  }
  if (!found->is_mount) return invalid_error("remove upper", name, "it is a container's");
  if (auto removed = store->remove_container(found->id); !removed)
    return with_context(removed.error(), "remove upper", name);
  return {};
}

void add_mount(CLI::App& app, Tool& tool) {
  auto* command = app.add_subcommand(
      "mount",
      "Mount an image; without arguments: list what is mounted of this store.\n"
      "Changes go to an upper that stays when it is unmounted; without --upper to one that bears the\n"
      "image's full name.");
  auto arguments = std::make_shared<MountArguments>();
  auto* image = command->add_option("image", arguments->image, "Name or id of the image");
  auto* where = command->add_option("mountpoint", arguments->mountpoint, "An existing directory");
  image->needs(where);
  command->add_option("--upper", arguments->upper, "Name of the upper, made if it is not there");
  command->add_flag("--ro", arguments->read_only,
                    "Read-only: the image itself, or with --upper an upper that is there");
  command->add_flag("--json", arguments->json, "The list as JSON")->excludes(image);
  command->add_flag("--volatile", arguments->is_volatile,
                    "Let fsync do nothing: fast, and lost at a power failure");
  command
      ->add_option(
          "-o", arguments->options,
          "Comma-separated: what mount(8) has for every file system (ro, rw, suid, nosuid, dev, nodev,\n"
          "exec, noexec, sync, nosymfollow...; no atime, for reading moves no times), allow_other, "
          "volatile,\n"
          "io_uring (what --restart=no does)")
      ->allow_extra_args(false);
  command->add_flag("-f,--foreground", arguments->foreground, "Stay in the foreground until it is unmounted");
  command
      ->add_option(
          "--restart", arguments->restart,
          "Whether a server that dies is replaced and the mount goes on: yes (the default) or no, with\n"
          "requests by io_uring where the administrator has enabled it for FUSE: faster")
      ->check(CLI::IsMember({"yes", "no"}));
  add_policy_option(*command, "--pull", arguments->pull.policy);
  command->add_option("--platform", arguments->pull.platform, "OS/ARCHITECTURE[/VARIANT] of what is pulled");
  add_access_options(*command, arguments->pull.access);
  command->add_flag("-q,--quiet", arguments->pull.quiet, "No progress bar of a pull");
  command->add_flag("--debug", arguments->debug, "Log every FUSE message (with --log-level debug)");
  command->callback([arguments, &tool] {
    finish(tool, arguments->image.empty() ? list_mounts(tool, arguments->json) : run_mount(tool, *arguments));
  });
}

void add_umount(CLI::App& app, Tool& tool) {
  auto* command =
      app.add_subcommand("umount", "Unmount; returns when everything is on disk")->alias("unmount");
  auto mountpoint = std::make_shared<std::string>();
  command->add_option("mountpoint", *mountpoint, "Where it is mounted")->required();
  command->callback([mountpoint, &tool] { finish(tool, mount::unmount(*mountpoint, tool.store_root)); });
}

void add_upper(CLI::App& app, Tool& tool) {
  auto* command = app.add_subcommand("upper", "List and remove the uppers of mounts");
  command->require_subcommand(1);
  auto as_json = std::make_shared<bool>(false);
  auto* list = command->add_subcommand("ls", "List the uppers")->alias("list");
  list->add_flag("--json", *as_json, "As JSON");
  list->callback([as_json, &tool] { finish(tool, list_uppers(tool, *as_json)); });
  auto names = std::make_shared<std::vector<std::string>>();
  auto* remove =
      command->add_subcommand("rm", "Remove uppers and all that was changed in them")->alias("remove");
  remove->add_option("name", *names, "Name or id")->required();
  remove->callback([names, &tool] {
    for (const auto& name : *names) finish(tool, remove_upper(tool, name));
  });
  // The short form of `upper ls`.
  auto short_json = std::make_shared<bool>(false);
  auto* uppers = app.add_subcommand("uppers", "List the uppers of mounts");
  uppers->add_flag("--json", *short_json, "As JSON");
  uppers->callback([short_json, &tool] { finish(tool, list_uppers(tool, *short_json)); });
}

}  // namespace

void add_mount_commands(CLI::App& app, Tool& tool) {
  add_mount(app, tool);
  add_umount(app, tool);
  add_upper(app, tool);
}

}  // namespace layerfs::tools
