// SPDX-License-Identifier: Apache-2.0
#include "runtime/container/prepared_mounts.h"

#include <fcntl.h>

#include <cerrno>

#include "fs/base/sys_file.h"
#include "runtime/plan/id_map.h"
#include "runtime/sys/id_mapped_mount.h"

namespace layerfs::container {

namespace {

Result<Fd> open_map(const plan::MountIdMap& map) {
  if (!map.user_namespace.empty()) return open_file(map.user_namespace, O_RDONLY);
  return sys::make_user_namespace(plan::format_map(map.uids), plan::format_map(map.gids));
}

Result<Fd> prepare_mount(const plan::MountStep& step) {
  using sys::MountExtent;
  LAYERFS_ASSIGN(Fd map, open_map(*step.id_map));
  LAYERFS_ASSIGN(Fd source, open_file(step.source, O_PATH));
  auto mount =
      sys::copy_id_mapped(source.get(), step.recursive ? MountExtent::kTree : MountExtent::kTop,
                          step.id_map->recursive ? MountExtent::kTree : MountExtent::kTop, map.get());
  if (!mount && mount.error().code == EINVAL)
    return unsupported_error("idmapped mount", step.source,
                             "its file system, or one below it, has none, or it is one already");
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

}  // namespace layerfs::container
