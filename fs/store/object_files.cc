// SPDX-License-Identifier: Apache-2.0
#include "fs/store/object_files.h"

#include <fcntl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>

#include "fs/base/sys_file.h"
#include "fs/store/object_writer.h"

namespace layerfs::store {

namespace {

/// Up to this many files an fsync each is cheaper than syncing whatever else the file system has dirty.
constexpr std::size_t kFewFiles = 16;
/// gc may move an object between the look at the catalog and the open of the pack: then look again.
constexpr int kMoveRetries = 8;

/// syncfs(2) reports write errors since Linux 5.8; before, a failed write would be missed.
bool syncfs_reports_errors() {
  static const bool kReports = [] {
    struct utsname name{};
    int major = 0;
    int minor = 0;
    if (::uname(&name) != 0 || std::sscanf(name.release, "%d.%d", &major, &minor) != 2) return false;
    return major > 5 || (major == 5 && minor >= 8);
  }();
  return kReports;
}

}  // namespace

Result<void> BulkSync::run() {
  if (paths_.size() > kFewFiles && syncfs_reports_errors()) {
    LAYERFS_ASSIGN(Fd root, open_file(layout_.root(), O_RDONLY | O_DIRECTORY));
    if (::syncfs(root.get()) != 0) return system_error(errno, "sync store", layout_.root());
    return {};
  }
  for (const auto& path : paths_) {
    LAYERFS_ASSIGN(Fd fd, open_file(path, O_RDONLY));
    if (auto synced = sync_fd(fd.get()); !synced) return with_context(synced.error(), "sync", path);
  }
  return {};
}

Result<tree::Blob> ObjectFiles::open_at_location(const Digest& digest, const ObjectLocation& location) const {
  if (location.pack == 0) {
    LAYERFS_ASSIGN(Fd fd, open_file(layout_.object(digest), O_RDONLY));
    LAYERFS_ASSIGN(struct stat st, stat_fd(fd.get()));
    if (static_cast<std::uint64_t>(st.st_size) != location.size)
      return corrupt_error("open object", digest.str(), "its file has another size");
    return tree::Blob{std::make_shared<const Fd>(std::move(fd)), 0, location.size};
  }
  LAYERFS_ASSIGN(OpenPack pack, packs_.open(location.pack));
  if (location.offset + location.size > pack.size)
    return corrupt_error("open object", digest.str(), "its pack is cut short");
  return tree::Blob{std::move(pack.file), location.offset, location.size};
}

Result<tree::Blob> ObjectFiles::open(const Digest& digest) const {
  for (int attempt = 0;; ++attempt) {
    LAYERFS_ASSIGN(auto location, catalog_.find_object(digest));
    if (!location) return system_error(ENOENT, "open object", digest.str());
    auto blob = open_at_location(digest, *location);
    if (blob || blob.error().code != ENOENT) return blob;
    LAYERFS_ASSIGN(auto now, catalog_.find_object(digest));
    if (now == location || attempt == kMoveRetries)
      return corrupt_error("open object", digest.str(), "the file that has it is missing");
  }
}

Result<bool> ObjectFiles::contains(const Digest& digest) const {
  LAYERFS_ASSIGN(auto location, catalog_.find_object(digest));
  return location.has_value();
}

Result<std::unique_ptr<ObjectWriter>> ObjectFiles::make_writer() {
  return make_object_writer(layout_, catalog_);
}

}  // namespace layerfs::store
