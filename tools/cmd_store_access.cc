// SPDX-License-Identifier: Apache-2.0
#include "tools/cmd_store_access.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <string_view>

#include "fs/base/sys_file.h"

namespace layerfs::tools {

namespace {

std::unexpected<Error> no_store(const Tool& tool) {
  auto missing = system_error(ENOENT, "open store", tool.store_root);
  missing.error().reason = "there is no store (`layerfs pull` and `layerfs import` make one)";
  return missing;
}

std::unexpected<Error> no_image(const std::string& name) {
  auto missing = system_error(ENOENT, "find image", name);
  missing.error().reason =
      "no such image; `layerfs images` lists those that are there, and `layerfs pull` brings one in from its "
      "registry, as `layerfs pull debian:12`";
  return missing;
}

}  // namespace

Result<bool> has_store(const Tool& tool) {
  auto format = find_stat_at(AT_FDCWD, join_path(tool.store_root, "format"), 0);
  if (!format) return with_context(format.error(), "open store", tool.store_root);
  return format->has_value();
}

Result<std::unique_ptr<store::Store>> open_store(const Tool& tool, store::StoreAccess access) {
  LAYERFS_ASSIGN(bool there, has_store(tool));
  if (!there) return no_store(tool);
  return store::Store::open(tool.store_root, access);
}

Result<std::unique_ptr<store::Store>> find_store(const Tool& tool) {
  LAYERFS_ASSIGN(bool there, has_store(tool));
  if (!there && !tool.store_is_named) return nullptr;
  return open_store(tool, store::StoreAccess::kRead);
}

Result<store::ImageRecord> get_image_to_use(store::Store& store, const std::string& name) {
  auto image = store::get_image_by_name(store, name);
  if (!image && image.error().kind == ErrorKind::kSystem && image.error().code == ENOENT)
    return no_image(name);
  return image;
}

Result<void> check_store_of_image(const Tool& tool, const std::string& image) {
  LAYERFS_ASSIGN(bool there, has_store(tool));
  if (!there) return with_context(no_image(image).error(), no_store(tool).error().message());
  return {};
}

std::vector<std::string> full_names(const std::string& text) {
  auto normalised = store::normalise_reference(text);
  if (!normalised) return {};
  constexpr std::string_view kLocal = "localhost/";
  std::vector<std::string> names{*normalised};
  if (normalised->starts_with(kLocal) && !text.starts_with(kLocal)) {
    std::string short_name = normalised->substr(kLocal.size());
    names.push_back("docker.io/library/" + short_name);
    names.push_back("docker.io/" + short_name);
  }
  return names;
}

Result<std::optional<store::ContainerRecord>> find_container_or_upper(store::Store& store,
                                                                      const std::string& name) {
  LAYERFS_ASSIGN(auto found, store.find_container(name));
  if (found) return found;
  for (const auto& full : full_names(name)) {
    LAYERFS_ASSIGN(auto upper, store.find_container(full));
    if (upper && upper->is_mount && upper->name == full) return upper;
  }
  return std::nullopt;
}

}  // namespace layerfs::tools
