// SPDX-License-Identifier: Apache-2.0
#include "tools/cmd_mount.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "fs/base/log.h"
#include "fs/base/sha256.h"
#include "fs/base/sys_file.h"
#include "fs/mount/mount.h"
#include "fs/mount/mount_options.h"
#include "fs/mount/mount_table.h"
#include "fs/store/store.h"

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
  std::string restart;  // empty: yes, unless something else says no
};

/// A fresh container id: nobody else's, also of another store.
Result<std::string> make_id() {
  LAYERFS_ASSIGN(auto random, open_file("/dev/urandom", O_RDONLY));
  std::array<std::byte, 32> bytes{};
  LAYERFS_TRY(read_full(random.get(), bytes));
  return sha256(bytes).hex();
}

struct Upper {
  store::ContainerRecord record;
  bool is_new = false;
};

/// The upper named `name` over `image`, made if it is not there. An upper belongs to the layers that it was
/// made over: its inode numbers are theirs.
Result<Upper> get_upper(store::Store& store, const std::string& name, const store::ImageRecord& image) {
  std::vector<Digest> layers;
  layers.reserve(image.layers.size());
  for (const auto& layer : image.layers) layers.push_back(layer.diff_id);
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
  LAYERFS_ASSIGN(upper.id, make_id());
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
  if (flags.read_only && !arguments.upper.empty())
    return invalid_error("mount", arguments.image, "--ro shows the image itself and takes no --upper");
  return flags;
}

struct Plan {
  mount::MountRequest request;
  bool made_upper = false;
};

/// The store is open only in here: the server opens it again, after its fork.
Result<Plan> make_plan(const Tool& tool, const MountArguments& arguments, const mount::MountFlags& flags) {
  auto access = flags.read_only ? store::StoreAccess::kRead : store::StoreAccess::kWrite;
  LAYERFS_ASSIGN(auto store, store::Store::open(tool.store_root, access));
  LAYERFS_ASSIGN(auto image, store::get_image_by_name(*store, arguments.image));
  Plan plan;
  mount::MountRequest& request = plan.request;
  request.store_root = tool.store_root;
  for (const auto& layer : image.layers) request.layers.push_back(layer.diff_id);
  if (flags.read_only) {
    request.fuse.source = fmt::format("{}{}", mount::kSourcePrefix, image.chain.hex().substr(0, 16));
  } else {
    const std::string& name = arguments.upper.empty() ? image.reference : arguments.upper;
    LAYERFS_ASSIGN(auto upper, get_upper(*store, name, image));
    plan.made_upper = upper.is_new;
    request.upper_id = upper.record.id;
    request.upper_dir = store->container_dir(upper.record.id);
    request.fuse.source = fmt::format("{}{}", mount::kSourcePrefix, upper.record.id);
  }
  request.is_volatile = flags.is_volatile;
  request.fuse.read_only = flags.read_only;
  // Root's mounts are seen by all, as any other file system's; a user's only where fuse.conf allows it.
  request.fuse.allow_other = flags.allow_other || ::geteuid() == 0;
  request.fuse.suid = flags.suid;
  request.fuse.dev = flags.dev;
  request.fuse.noatime = flags.noatime;
  request.fuse.ids = mount::current_id_view();
  request.fuse.debug = arguments.debug;
  // What a server that dies had taken off a ring can't be had again (fs/fuse/ring.h).
  request.fuse.outlives_server = arguments.restart != "no" && !flags.io_uring;
  request.fuse.io_uring = !request.fuse.outlives_server;
  return plan;
}

/// The first error is the one that counts; what is left of an upper shows in `layerfs uppers`.
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

/// Like mount(8) without arguments.
Result<void> list_all_mounts() {
  LAYERFS_ASSIGN(auto entries, mount::list_mounts());
  std::string text;
  for (const auto& entry : entries)
    text +=
        fmt::format("{} on {} type {} ({})\n", entry.source, entry.path, mount::kMountType, entry.options);
  return print(text);
}

/// Where an upper is mounted in this mount namespace.
std::string mountpoint_of(const std::vector<mount::MountEntry>& mounts, const std::string& id) {
  for (const auto& entry : mounts)
    if (entry.name() == id) return entry.path;
  return {};
}

Result<void> list_uppers(const Tool& tool, bool as_json) {
  LAYERFS_ASSIGN(auto store, store::Store::open(tool.store_root, store::StoreAccess::kRead));
  LAYERFS_ASSIGN(auto containers, store->list_containers());
  LAYERFS_ASSIGN(auto mounts, mount::list_mounts());
  nlohmann::json list = nlohmann::json::array();
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
                    {"mountpoint", path.empty() ? nlohmann::json(nullptr) : nlohmann::json(path)}});
  }
  return print(as_json ? list.dump(2) + '\n' : format_table(rows));
}

Result<void> remove_upper(const Tool& tool, const std::string& name) {
  LAYERFS_ASSIGN(auto store, store::Store::open(tool.store_root, store::StoreAccess::kWrite));
  LAYERFS_ASSIGN(auto found, store->find_container(name));
  if (!found) return system_error(ENOENT, "remove upper", name);
  if (!found->is_mount) return invalid_error("remove upper", name, "it is a container's");
  if (auto removed = store->remove_container(found->id); !removed)
    return with_context(removed.error(), "remove upper", name);
  return {};
}

void add_mount(CLI::App& app, Tool& tool) {
  auto* command = app.add_subcommand(
      "mount",
      "Mount an image; without arguments: list what is mounted.\n"
      "Changes go to an upper that stays when it is unmounted; without --upper to one that bears the\n"
      "image's full name.");
  auto arguments = std::make_shared<MountArguments>();
  auto* image = command->add_option("image", arguments->image, "Name or id of the image");
  auto* where = command->add_option("mountpoint", arguments->mountpoint, "An existing directory");
  image->needs(where);
  command->add_option("--upper", arguments->upper, "Name of the upper, made if it is not there");
  command->add_flag("--ro", arguments->read_only, "The image itself, read-only, without an upper");
  command->add_flag("--volatile", arguments->is_volatile,
                    "Let fsync do nothing: fast, and lost at a power failure");
  command
      ->add_option(
          "-o", arguments->options,
          "Comma-separated: ro, rw, suid, nosuid, dev, nodev, noatime, atime, allow_other, volatile,\n"
          "io_uring (what --restart=no does)")
      ->allow_extra_args(false);
  command->add_flag("-f,--foreground", arguments->foreground, "Stay in the foreground until it is unmounted");
  command
      ->add_option(
          "--restart", arguments->restart,
          "Whether a server that dies is replaced and the mount goes on: yes (the default) or no, with\n"
          "requests by io_uring where the administrator has enabled it for FUSE: faster")
      ->check(CLI::IsMember({"yes", "no"}));
  command->add_flag("--debug", arguments->debug, "Log every FUSE message (with --log-level debug)");
  command->callback([arguments, &tool] {
    finish(tool, arguments->image.empty() ? list_all_mounts() : run_mount(tool, *arguments));
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
