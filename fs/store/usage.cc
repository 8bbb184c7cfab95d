// SPDX-License-Identifier: Apache-2.0
// What the store holds and what it takes on disk.
#include <fcntl.h>
#include <sys/stat.h>

#include <map>
#include <set>

#include "fs/base/sys_file.h"
#include "fs/store/disk_layers.h"
#include "fs/store/disk_store.h"
#include "fs/store/disk_usage.h"

namespace layerfs::store {

namespace {

constexpr std::uint64_t kBlock = 512;  // of st_blocks, stat(2)

std::uint64_t disk_bytes_at(int dir_fd, const std::string& name) {
  auto st = find_stat_at(dir_fd, name, AT_SYMLINK_NOFOLLOW);
  if (!st || !*st) return 0;
  std::uint64_t bytes = static_cast<std::uint64_t>((*st)->st_blocks) * kBlock;
  if (!S_ISDIR((*st)->st_mode)) return bytes;
  auto fd = open_at(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!fd) return bytes;
  auto names = list_dir_at(fd->get());
  if (!names) return bytes;
  for (const auto& child : *names) bytes += disk_bytes_at(fd->get(), child);
  return bytes;
}

}  // namespace

std::uint64_t disk_bytes(const OwnDirectory& directory, const std::string& path) {
  std::size_t slash = path.rfind('/');
  auto parent =
      directory.open(slash == std::string::npos ? "." : path.substr(0, slash), O_PATH | O_DIRECTORY);
  return parent ? disk_bytes_at(parent->get(), path.substr(slash == std::string::npos ? 0 : slash + 1)) : 0;
}

Result<UsageReport> DiskStore::usage() {
  UsageReport report;
  LAYERFS_ASSIGN(auto images, catalog_->list_images());
  std::map<Digest, std::uint64_t> layer_bytes;
  std::set<Digest> seen;
  for (const auto& image : images) {
    if (!seen.insert(image.manifest).second) continue;  // another name of the same image
    ++report.images;
    for (const auto& layer : image.layers) {
      auto [known, is_new] = layer_bytes.try_emplace(layer.diff_id, 0);
      if (is_new) {
        LAYERFS_ASSIGN(auto stored, get_layer(layer.diff_id));
        known->second = stored->info().content_bytes;
        report.layer_dedup_bytes += known->second;
      }
      report.logical_bytes += known->second;
    }
  }
  LAYERFS_TRY(catalog_->for_each_object([&](const ObjectRow& row) {
    report.file_dedup_bytes += row.location.size;
    return true;
  }));
  auto bytes_of = [&](const char* path) { return disk_bytes(layout_.own(), path); };
  report.object_disk_bytes = bytes_of(Layout::kObjects) + bytes_of(Layout::kPacks);
  for (const char* path : {Layout::kCatalog, Layout::kTrees, Layout::kLayers, "blobs"})
    report.metadata_disk_bytes += bytes_of(path);
  report.container_disk_bytes = bytes_of(Layout::kContainers);
  return report;
}

}  // namespace layerfs::store
