// SPDX-License-Identifier: Apache-2.0
#include "fs/store/disk_objects.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>
#include <ctime>

#include "fs/base/sys_file.h"
#include "fs/store/object_writer.h"
#include "fs/store/sparse_name.h"

namespace layerfs::store {

namespace {

/// Up to this many files an fsync each is cheaper than syncing whatever else the file system has dirty.
constexpr std::size_t kFewFiles = 16;
/// gc may move an object between the look at the catalog and the open of the pack: then look again.
constexpr int kMoveRetries = 8;
/// The time of modification, in seconds since 1970, of a file of objects/ that nobody wrote to since it was
/// made.
constexpr std::time_t kUnchangedTime = 1;

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

bool is_same(const struct timespec& a, const struct timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

}  // namespace

Result<void> BulkSync::run() {
  if (paths_.size() > kFewFiles && syncfs_reports_errors()) {
    if (::syncfs(layout_.own().fd()) != 0) return system_error(errno, "sync store", layout_.root());
    return {};
  }
  for (const auto& path : paths_) LAYERFS_TRY(layout_.own().sync(path));
  return {};
}

Result<void> mark_unchanged(int fd) {
  struct timespec times[2] = {{0, UTIME_OMIT}, {kUnchangedTime, 0}};
  if (::futimens(fd, times) != 0) return system_error(errno, "set time of object");
  return {};
}

Result<void> DiskObjects::verify_at_location(const Digest& digest, const ObjectLocation& location,
                                             const tree::Blob& blob) {
  auto has = location.is_sparse_form() ? sparse_name_of(blob.file->get(), blob.size) : tree::digest_of(blob);
  if (!has) return with_context(std::move(has).error(), "object", digest.str());
  if (*has != digest) return corrupt_error("object", digest.str(), "its bytes have another digest");
  return {};
}

Result<tree::Blob> DiskObjects::open_file_of(const Digest& digest, const ObjectLocation& location) const {
  LAYERFS_ASSIGN(Fd fd, layout_.own().open(layout_.object(digest), O_RDONLY));
  LAYERFS_ASSIGN(struct stat st, stat_fd(fd.get()));
  if (static_cast<std::uint64_t>(st.st_size) != location.size)
    return corrupt_error("open object", digest.str(), "its file has another size");
  tree::Blob blob{std::make_shared<const Fd>(std::move(fd)), 0, location.size};
  constexpr struct timespec kUnchanged{kUnchangedTime, 0};
  if (is_same(st.st_mtim, kUnchanged)) return blob;
  {
    std::lock_guard lock(mutex_);
    const auto known = verified_.find(digest);
    if (known != verified_.end() && is_same(known->second, st.st_mtim)) return blob;
  }
  LAYERFS_TRY(verify_at_location(digest, location, blob));
  struct timespec time = st.st_mtim;
  if (mark_unchanged(blob.file->get())) {
    LAYERFS_ASSIGN(st, stat_fd(blob.file->get()));
    if (is_same(st.st_mtim, kUnchanged)) return blob;
    time = st.st_mtim;  // what the file system made of it
  }
  // A disk that is read-only, somebody else's store, or a file system that does not have such times.
  std::lock_guard lock(mutex_);
  verified_.insert_or_assign(digest, time);
  return blob;
}

Result<tree::Blob> DiskObjects::open_at_location(const Digest& digest, const ObjectLocation& location) const {
  if (location.pack == 0) return open_file_of(digest, location);
  LAYERFS_ASSIGN(OpenPack pack, packs_.open(location.pack));
  if (location.offset + location.size > pack.size)
    return corrupt_error("open object", digest.str(), "its pack is cut short");
  return tree::Blob{std::move(pack.file), location.offset, location.size};
}

Result<void> DiskObjects::verify(const Digest& digest) const {
  LAYERFS_ASSIGN(tree::Blob blob, open(digest));
  LAYERFS_ASSIGN(auto location, catalog_.find_object(digest));
  if (!location) return system_error(ENOENT, "open object", digest.str());
  return verify_at_location(digest, *location, blob);
}

Result<tree::Blob> DiskObjects::open(const Digest& digest) const {
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

Result<bool> DiskObjects::contains(const Digest& digest) const {
  LAYERFS_ASSIGN(auto location, catalog_.find_object(digest));
  return location.has_value();
}

Result<std::unique_ptr<ObjectWriter>> DiskObjects::make_writer() {
  return make_object_writer(layout_, catalog_);
}

}  // namespace layerfs::store
