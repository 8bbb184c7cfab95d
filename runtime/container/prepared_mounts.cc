// SPDX-License-Identifier: Apache-2.0
#include "runtime/container/prepared_mounts.h"

#include <fcntl.h>

#include <cerrno>
#include <string>

#include "fs/base/sys_file.h"
#include "runtime/plan/id_map.h"
#include "runtime/sys/id_mapped_mount.h"

namespace layerfs::container {

namespace {

using sys::MountExtent;

Result<Fd> open_map(const plan::MountIdMap& map) {
  if (!map.user_namespace.empty()) return open_file(map.user_namespace, O_RDONLY);
  return sys::make_user_namespace(plan::format_map(map.uids), plan::format_map(map.gids));
}

Result<Fd> copy(const plan::MountStep& step) {
  LAYERFS_ASSIGN(Fd source, open_file(step.source, O_PATH));
  return sys::copy_mount(source.get(), step.recursive ? MountExtent::kTree : MountExtent::kTop);
}

Result<Fd> prepare_mount(const plan::MountStep& step) {
  LAYERFS_ASSIGN(Fd map, open_map(*step.id_map));
  LAYERFS_ASSIGN(Fd mount, copy(step));
  auto mapped =
      sys::map_ids(mount.get(), step.id_map->recursive ? MountExtent::kTree : MountExtent::kTop, map.get());
  if (!mapped && mapped.error().code == EINVAL)
    return unsupported_error("idmapped mount", step.source,
                             "its file system, or one below it, has none, or it is one already");
  LAYERFS_TRY(mapped);
  return mount;
}

}  // namespace

Result<std::vector<Fd>> prepare_mounts(std::span<const plan::Step> steps) {
  std::vector<Fd> mounts;
  for (const auto& step : steps) {
    const auto* mount = std::get_if<plan::MountStep>(&step);
    if (mount == nullptr || !mount->id_map) continue;
    auto prepared = prepare_mount(*mount);
    if (!prepared) return with_context(prepared.error(), "mount", mount->target);
    mounts.push_back(std::move(*prepared));
  }
  return mounts;
}

Result<Fd> copy_source(std::span<const plan::Step> steps, std::size_t step) {
  const auto* device = step < steps.size() ? std::get_if<plan::DeviceStep>(&steps[step]) : nullptr;
  if (device != nullptr && device->making == plan::DeviceMaking::kCreator)
    return sys::make_device_mount(device->mode, device->rdev, device->uid, device->gid);
  const auto* mount = step < steps.size() ? std::get_if<plan::MountStep>(&steps[step]) : nullptr;
  if (mount == nullptr || !mount->bind || mount->id_map)
    return invalid_error("copy mount of step", std::to_string(step), "is no bind mount");
  return copy(*mount);
}

}  // namespace layerfs::container
