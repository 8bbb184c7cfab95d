// SPDX-License-Identifier: Apache-2.0
#include "runtime/container/run_steps.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "fs/base/check.h"
#include "runtime/container/root_walk.h"
#include "runtime/container/tmpfs_copy.h"
#include "runtime/container/tree_owner.h"
#include "runtime/plan/id_map.h"
#include "runtime/plan/user_lookup.h"

namespace layerfs::container {

namespace {

using plan::DeviceMaking;
using plan::DeviceStep;
using plan::MountStep;

constexpr std::size_t kUserFileLimit = std::size_t{4} << 20;  // of /etc/passwd and /etc/group

/// MOUNT_ATTR_* of MS_* (mount_setattr(2)).
std::uint64_t to_attributes(unsigned long flags) {
  struct Pair {
    unsigned long flag;
    std::uint64_t attribute;
  };
  constexpr std::array<Pair, 8> kPairs{{{MS_RDONLY, MOUNT_ATTR_RDONLY},
                                        {MS_NOSUID, MOUNT_ATTR_NOSUID},
                                        {MS_NODEV, MOUNT_ATTR_NODEV},
                                        {MS_NOEXEC, MOUNT_ATTR_NOEXEC},
                                        {MS_NOATIME, MOUNT_ATTR_NOATIME},
                                        {MS_STRICTATIME, MOUNT_ATTR_STRICTATIME},
                                        {MS_NODIRATIME, MOUNT_ATTR_NODIRATIME},
                                        {256 /* MS_NOSYMFOLLOW */, MOUNT_ATTR_NOSYMFOLLOW}}};
  std::uint64_t attributes = 0;
  for (const auto& pair : kPairs)
    if ((flags & pair.flag) != 0) attributes |= pair.attribute;
  return attributes;
}

sys::BindAttributes bind_attributes(const MountStep& step) {
  sys::BindAttributes attributes;
  attributes.recursive = step.recursive;
  attributes.set = to_attributes(step.flags);
  attributes.clear = to_attributes(step.clear_flags);
  if ((step.clear_flags & (MS_NOATIME | MS_STRICTATIME)) != 0) attributes.clear |= MOUNT_ATTR__ATIME;
  attributes.recursive_set = step.recursive_set;
  attributes.recursive_clear = step.recursive_clear;
  attributes.propagation = step.propagation;
  return attributes;
}

bool is_below(const std::string& path, std::string_view directory) {
  return path.starts_with(directory) && (path.size() == directory.size() || path[directory.size()] == '/');
}

class Runner {
 public:
  explicit Runner(StepContext& context) : context_(context), calls_(context.calls) {}

  Result<void> operator()(const plan::UnshareCgroup&) { return calls_.unshare(CLONE_NEWCGROUP); }
  Result<void> operator()(const plan::SetPropagation& step) {
    return calls_.set_propagation("/", step.flags);
  }

  Result<void> operator()(const plan::MountFuseRoot& step) {
    // A FUSE mount belongs to the user namespace that opened its device (fuse(4)): hence here, and not in the
    // server.
    LAYERFS_ASSIGN(Fd device, calls_.open_path("/dev/fuse", O_RDWR));
    LAYERFS_ASSIGN(Fd target, calls_.open_path(step.directory, O_PATH | O_DIRECTORY));
    // nodev: devices are the runtime's to give; what an image or the container makes stays a name.
    sys::MountCall call{"layerfs", "fuse.layerfs", MS_NODEV, context_.fuse_options(device.get())};
    LAYERFS_TRY(calls_.mount_on(target.get(), call));
    // The server sees by it on which processor a caller is. It is mounted nowhere: nothing that the container
    // mounts or links can lead the server elsewhere. Without it the server is only slower.
    if (auto processes = calls_.make_procfs(); processes)
      LAYERFS_TRY(context_.sync.send(MessageKind::kProcesses, 0, {}, processes->get()));
    LAYERFS_TRY(context_.sync.send(MessageKind::kFuseDevice, 0, {}, device.get()));
    // From here the server answers, and the first look at the root waits for it. With this copy of the device
    // open a server that dies would leave us waiting for ever.
    device.reset();
    return open_root(step.directory);
  }

  Result<void> operator()(const plan::BindRoot& step) {
    LAYERFS_ASSIGN(Fd source, calls_.open_path(step.directory, O_PATH | O_DIRECTORY));
    if (step.isolate) LAYERFS_TRY(calls_.isolate(source.get()));
    // Twice: pivot_root(2) refuses a root whose parent mount is shared, and the parent of the second is the
    // first.
    sys::BindAttributes attributes;
    attributes.recursive = true;
    attributes.propagation = {MS_PRIVATE};
    LAYERFS_TRY(calls_.bind_on(source.get(), source.get(), attributes));
    LAYERFS_ASSIGN(Fd again, calls_.open_path(step.directory, O_PATH | O_DIRECTORY));
    LAYERFS_TRY(calls_.bind_on(again.get(), again.get(), attributes));
    return open_root(step.directory);
  }

  Result<void> operator()(const MountStep& step) {
    if (step.id_map) return attach_prepared(step);
    if (step.bind) return bind(step, step.source, bind_attributes(step));
    if (step.type == "proc" || step.type == "sysfs") LAYERFS_TRY(refuse_link(step.target));
    // A mount point that has to be made has nothing to be copied, its mode neither.
    bool copies = step.copy_up && calls_.open_in_root(root(), step.target, O_PATH, 0).has_value();
    LAYERFS_ASSIGN(Fd target, open_target(step.target, TargetKind::kDirectory));
    sys::MountCall call{step.source, step.type, step.flags, step.data};
    auto mounted = calls_.mount_on(target.get(), call);
    if (!mounted && mounted.error().code == EPERM && !step.fallback_bind.empty()) {
      return bind_instead(step);
    }
    if (!mounted && mounted.error().code == ENODEV && step.optional) return {};
    if (!mounted && step.type == "proc" && mounted.error().code == EPERM)
      return unsupported_error("", "",
                               "the kernel refuses a new procfs: this process's own /proc is partly hidden");
    LAYERFS_TRY(mounted);
    if (copies) {
      LAYERFS_ASSIGN(Fd fresh, calls_.open_in_root(root(), step.target, O_RDONLY | O_DIRECTORY, 0));
      LAYERFS_TRY(copy_into_tmpfs(target.get(), fresh.get()));
    }
    if (step.propagation.empty() && step.label.empty() && !step.readonly_later) return {};
    LAYERFS_ASSIGN(Fd top, calls_.open_in_root(root(), step.target, O_PATH, 0));
    if (!step.label.empty()) LAYERFS_TRY(calls_.set_xattr(top.get(), "security.selinux", step.label));
    if (!step.propagation.empty()) {
      sys::BindAttributes attributes;
      attributes.propagation = step.propagation;
      LAYERFS_TRY(calls_.change_mount(top.get(), attributes));
    }
    if (step.readonly_later) context_.readonly_later.push_back(std::move(top));
    return {};
  }

  Result<void> operator()(const plan::LinkStep& step) {
    LAYERFS_ASSIGN(ParentAndName at, open_parent(calls_, root(), step.path));
    auto made = calls_.make_link_at(step.target, at.parent.get(), at.name);
    if (!made && made.error().code == EEXIST) return {};
    return made;
  }

  Result<void> operator()(const DeviceStep& step) {
    LAYERFS_ASSIGN(ParentAndName at, open_parent(calls_, root(), step.path));
    if (step.making == DeviceMaking::kNode) {
      auto made = calls_.make_node_at(at.parent.get(), at.name, step.mode, step.rdev);
      if (made) return calls_.set_owner_at(at.parent.get(), at.name, step.uid, step.gid, step.mode);
      if (made.error().code != EEXIST) return made;
      // One that is there must be the one that was asked for.
      LAYERFS_ASSIGN(Fd there, calls_.open_at(at.parent.get(), at.name, O_PATH | O_NOFOLLOW, 0));
      LAYERFS_ASSIGN(struct stat st, calls_.stat_fd(there.get()));
      if ((st.st_mode & S_IFMT) == (step.mode & S_IFMT) && st.st_rdev == step.rdev) return {};
      return made;
    }
    // It is a device and nothing else, whatever the host's /dev allows.
    sys::BindAttributes attributes;
    attributes.set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;
    if (step.making == DeviceMaking::kCreator) {
      LAYERFS_ASSIGN(Fd node, ask_for_source());
      if (node) {
        LAYERFS_ASSIGN(Fd target, open_target(step.path, TargetKind::kFile));
        return calls_.attach_on(target.get(), node.get(), attributes);
      }
    }
    LAYERFS_ASSIGN(Fd source, calls_.open_path(step.path, O_PATH));
    LAYERFS_ASSIGN(struct stat st, calls_.stat_fd(source.get()));
    if ((st.st_mode & S_IFMT) != (step.mode & S_IFMT) || st.st_rdev != step.rdev)
      return unsupported_error(
          "", "", "the host's node of this name is another device, and a new one may not be made");
    LAYERFS_ASSIGN(Fd target, open_target(step.path, TargetKind::kFile));
    return calls_.bind_on(target.get(), source.get(), attributes);
  }

  Result<void> operator()(const plan::ConsoleStep& step) { return context_.make_console(step, context_); }

  Result<void> operator()(const plan::MaskStep& step) {
    auto target = open_existing(step.path);
    if (!target) return is_absent(target.error());
    LAYERFS_ASSIGN(struct stat st, calls_.stat_fd(target->get()));
    if (!S_ISDIR(st.st_mode)) {
      LAYERFS_ASSIGN(Fd null, calls_.open_path("/dev/null", O_PATH));
      sys::BindAttributes attributes;
      attributes.set = MOUNT_ATTR_RDONLY;
      return calls_.bind_on(target->get(), null.get(), attributes);
    }
    if (context_.empty_dir) return calls_.bind_on(target->get(), context_.empty_dir.get(), {});
    LAYERFS_TRY(calls_.mount_on(
        target->get(), {"tmpfs", "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=0k,mode=755"}));
    LAYERFS_ASSIGN(context_.empty_dir, calls_.open_in_root(root(), step.path, O_PATH, 0));
    return {};
  }

  Result<void> operator()(const plan::ReadonlyStep& step) {
    auto target = open_existing(step.path);
    if (!target) return is_absent(target.error());
    sys::BindAttributes attributes;
    attributes.set = MOUNT_ATTR_RDONLY;
    // A mount of its own is changed; what is none (EINVAL, mount_setattr(2)) is bound onto itself.
    auto changed = calls_.change_mount(target->get(), attributes);
    if (changed || changed.error().code != EINVAL) return changed;
    attributes.recursive = true;
    return calls_.bind_on(target->get(), target->get(), attributes);
  }

  Result<void> operator()(const plan::ReadonlyMounts&) {
    sys::BindAttributes attributes;
    attributes.set = MOUNT_ATTR_RDONLY;
    for (const Fd& mount : context_.readonly_later) LAYERFS_TRY(calls_.change_mount(mount.get(), attributes));
    context_.readonly_later.clear();
    return {};
  }

  Result<void> operator()(const plan::ReadonlyRoot&) {
    sys::BindAttributes attributes;
    attributes.set = MOUNT_ATTR_RDONLY;
    return calls_.change_mount(root(), attributes);
  }

  Result<void> operator()(const plan::SysctlStep& step) {
    LAYERFS_ASSIGN(Fd file, calls_.open_in_root(context_.host_proc.get(), "sys/" + step.key, O_WRONLY, 0));
    LAYERFS_TRY(require_type(file.get(), PROC_SUPER_MAGIC));
    return calls_.write_all(file.get(), step.value);
  }

  Result<void> operator()(const plan::RuntimeHooks&) {
    LAYERFS_TRY(context_.sync.send(MessageKind::kHooks));
    LAYERFS_ASSIGN(Message answer, context_.sync.receive());
    if (answer.kind != MessageKind::kGo) return system_error(ECANCELED, "");
    return {};
  }
  Result<void> operator()(const plan::ContainerHooks&) { return context_.run_container_hooks(); }

  Result<void> operator()(const plan::Pivot& step) {
    LAYERFS_TRY(calls_.change_dir_fd(root()));
    switch (step.kind) {
      case plan::PivotKind::kPivot: LAYERFS_TRY(calls_.pivot_to_current()); break;
      case plan::PivotKind::kMoveAndChroot: LAYERFS_TRY(calls_.move_to_root()); break;
      case plan::PivotKind::kChroot: LAYERFS_TRY(calls_.chroot_to_current()); break;
    }
    context_.root.reset();
    context_.empty_dir.reset();
    if (step.propagation == 0) return {};
    return calls_.set_propagation("/", step.propagation);
  }

  Result<void> operator()(const plan::SetHostname& step) { return calls_.set_hostname(step.name); }
  Result<void> operator()(const plan::SetDomainname& step) { return calls_.set_domainname(step.name); }
  Result<void> operator()(const plan::LoopbackUp&) { return calls_.loopback_up(); }

  Result<void> operator()(const plan::MakeDirectory& step) {
    auto made = open_or_make(calls_, root(), step.path, TargetKind::kDirectory);
    if (!made) return std::unexpected(made.error());
    LAYERFS_ASSIGN(struct stat st, calls_.stat_fd(made->get()));
    if (!S_ISDIR(st.st_mode)) return system_error(ENOTDIR, "");
    return {};
  }

  Result<void> operator()(const plan::ResolveUser& step) {
    plan::ProcessPlan& process = context_.process;
    LAYERFS_ASSIGN(std::string passwd, read_small_file(calls_, root(), "/etc/passwd", kUserFileLimit));
    LAYERFS_ASSIGN(std::string group, read_small_file(calls_, root(), "/etc/group", kUserFileLimit));
    std::string wanted = step.user.empty() ? std::to_string(process.uid) : step.user;
    LAYERFS_ASSIGN(plan::FoundUser found, plan::find_user(wanted, passwd, group));
    if (!step.user.empty()) LAYERFS_TRY(become(found));
    auto has_home = [](const std::string& item) { return item.starts_with("HOME="); };
    if (std::ranges::none_of(process.env, has_home)) process.env.push_back("HOME=" + found.home);
    return {};
  }

 private:
  int root() const { return context_.root.get(); }

  Result<void> open_root(const std::string& directory) {
    LAYERFS_ASSIGN(context_.root, calls_.open_path(directory, O_PATH | O_DIRECTORY));
    return {};
  }

  Result<void> require_type(int fd, long type) {
    LAYERFS_ASSIGN(sys::FsFacts facts, calls_.fs_facts(fd));
    if (facts.type != type) return unsupported_error("", "", "lies on a file system of another type");
    return {};
  }

  /// /proc and /sys where an image has links: its names would show them, and our checks of them something
  /// else (CVE-2019-19921).
  Result<void> refuse_link(const std::string& path) {
    auto there = calls_.open_in_root(root(), path, O_PATH | O_NOFOLLOW, 0);
    if (!there) return is_absent(there.error());
    LAYERFS_ASSIGN(struct stat st, calls_.stat_fd(there->get()));
    if (S_ISDIR(st.st_mode)) return {};
    return invalid_error("", "", "is no directory in the image");
  }

  Result<Fd> open_target(const std::string& path, TargetKind kind) {
    return open_or_make(calls_, root(), path, kind);
  }

  Result<Fd> open_existing(const std::string& path) {
    LAYERFS_ASSIGN(Fd fd, calls_.open_in_root(root(), path, O_PATH, 0));
    if (is_below(path, "/proc")) LAYERFS_TRY(require_type(fd.get(), PROC_SUPER_MAGIC));
    return fd;
  }

  static Result<void> is_absent(const Error& error) {
    if (error.code == ENOENT || error.code == ENOTDIR) return {};
    return std::unexpected(error);
  }

  Result<void> bind(const MountStep& step, const std::string& source_path,
                    const sys::BindAttributes& attributes) {
    auto source = calls_.open_path(source_path, O_PATH);
    if (!source && source.error().code == EACCES && step.bind) {
      // Below a directory of the host that this user namespace's root may not enter, but our creator may.
      LAYERFS_ASSIGN(Fd tree, ask_for_source());
      if (tree) return attach(step, tree.get());
    }
    if (!source) return std::unexpected(source.error());
    LAYERFS_TRY(give_to_user(step, source->get()));
    LAYERFS_ASSIGN(struct stat st, calls_.stat_fd(source->get()));
    LAYERFS_ASSIGN(Fd target, open_target(step.target,
                                          S_ISDIR(st.st_mode) ? TargetKind::kDirectory : TargetKind::kFile));
    return calls_.bind_on(target.get(), source->get(), attributes);
  }

  /// The host's own mount, with those below it: what was asked of one holds for all of them, or the host's
  /// groups below a read-only /sys could be written (CVE-2023-25809).
  Result<void> bind_instead(const MountStep& step) {
    sys::BindAttributes attributes = bind_attributes(step);
    attributes.recursive = true;
    attributes.recursive_set |= attributes.set;
    auto bound = bind(step, step.fallback_bind, attributes);
    if (bound || bound.error().kind != ErrorKind::kUnsupported) return bound;
    attributes.recursive_set = step.recursive_set;  // before Linux 5.12
    return bind(step, step.fallback_bind, attributes);
  }

  Result<Fd> ask_for_source() {
    LAYERFS_TRY(context_.sync.send(MessageKind::kSource, static_cast<std::int32_t>(context_.step)));
    LAYERFS_ASSIGN(Message answer, context_.sync.receive());
    if (answer.kind != MessageKind::kSource) return system_error(ECANCELED, "");
    return std::move(answer.fd);
  }

  Result<void> attach_prepared(const MountStep& step) {
    LAYERFS_CHECK(!context_.prepared_mounts.empty());
    Fd tree = std::move(context_.prepared_mounts.front());
    context_.prepared_mounts.pop_front();
    return attach(step, tree.get());
  }

  Result<void> give_to_user(const MountStep& step, int source) const {
    if (!step.owned_by_user) return {};
    return own_tree(source, context_.process.uid, context_.process.gid);
  }

  Result<void> attach(const MountStep& step, int tree_fd) {
    LAYERFS_TRY(give_to_user(step, tree_fd));
    LAYERFS_ASSIGN(struct stat st, calls_.stat_fd(tree_fd));
    LAYERFS_ASSIGN(Fd target, open_target(step.target,
                                          S_ISDIR(st.st_mode) ? TargetKind::kDirectory : TargetKind::kFile));
    return calls_.attach_on(target.get(), tree_fd, bind_attributes(step));
  }

  Result<void> refuse_unmapped(const char* what, std::uint32_t id, const std::vector<spec::IdMapping>& map,
                               const char* file) const {
    if (context_.ids.writer == plan::MapWriter::kNone || plan::maps_id(map, id)) return {};
    return invalid_error(
        "", "",
        fmt::format("is {} {}, which is not mapped here: there are {} ({} has the ranges of ordinary users)",
                    what, id, plan::describe_ids(map), file));
  }

  Result<void> become(const plan::FoundUser& found) {
    plan::ProcessPlan& process = context_.process;
    LAYERFS_TRY(refuse_unmapped("user", found.uid, context_.ids.uids, "/etc/subuid"));
    LAYERFS_TRY(refuse_unmapped("group", found.gid, context_.ids.gids, "/etc/subgid"));
    process.uid = found.uid;
    process.gid = found.gid;
    process.additional_gids.clear();
    // Groups that are not mapped cannot be had; a user without them still can.
    for (std::uint32_t gid : found.groups)
      if (process.set_groups &&
          (context_.ids.writer == plan::MapWriter::kNone || plan::maps_id(context_.ids.gids, gid)))
        process.additional_gids.push_back(gid);
    return {};
  }

  StepContext& context_;
  sys::Syscalls& calls_;
};

}  // namespace

Result<void> run_steps(std::span<const plan::Step> steps, StepContext& context) {
  Runner runner(context);
  for (context.step = 0; context.step < steps.size(); ++context.step) {
    const plan::Step& step = steps[context.step];
    auto done = std::visit(runner, step);
    if (done) continue;
    Error error = done.error();
    error.context =
        error.context.empty() ? plan::describe(step) : plan::describe(step) + ": " + error.context;
    return std::unexpected(std::move(error));
  }
  return {};
}

}  // namespace layerfs::container
