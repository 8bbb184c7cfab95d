// SPDX-License-Identifier: Apache-2.0
// DiskObjects: the ObjectStore on packs/, objects/ and the catalog (FORMAT.md, "Objects").
#pragma once

#include <ctime>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "fs/store/catalog_db.h"
#include "fs/store/layout.h"
#include "fs/store/object_store.h"
#include "fs/store/pack_cache.h"

namespace layerfs::store {

class DiskObjects final : public ObjectStore {
 public:
  /// Requires: both outlive it and its writers.
  DiskObjects(const Layout& layout, CatalogDb& catalog)
      : layout_(layout), catalog_(catalog), packs_(layout, default_pack_cache_limit()) {}

  Result<tree::Blob> open(const Digest& digest) const override;
  Result<void> verify(const Digest& digest) const override;
  Result<bool> contains(const Digest& digest) const override;
  Result<std::unique_ptr<ObjectWriter>> make_writer() override;

  /// Opens what the catalog has at `location`. Errors: ENOENT; kCorrupt where the file is shorter, or was
  /// changed.
  Result<tree::Blob> open_at_location(const Digest& digest, const ObjectLocation& location) const;
  /// Errors: kCorrupt where the bytes have another digest.
  static Result<void> verify_at_location(const Digest& digest, const ObjectLocation& location,
                                         const tree::Blob& blob);
  /// Closes the kept descriptor of a pack that is gone.
  void forget_pack(std::uint64_t id) { packs_.forget(id); }

 private:
  const Layout& layout_;
  CatalogDb& catalog_;
  Result<tree::Blob> open_file_of(const Digest& digest, const ObjectLocation& location) const;

  mutable PackCache packs_;
  mutable std::mutex mutex_;
  /// Guarded by mutex_. Files that can't be marked, and their times when they were what they are to be.
  mutable std::unordered_map<Digest, struct timespec> verified_;
};

/// Marks a file of objects/ as unchanged since now, by its time of modification. Errors: those of
/// utimensat(2).
Result<void> mark_unchanged(int fd);

/// Waits until files of the store are on disk: with few `files` one by one, else the whole file system at
/// once.
class BulkSync {
 public:
  explicit BulkSync(const Layout& layout) : layout_(layout) {}
  /// A file or directory by path, to be on disk after run().
  void add(std::string path) { paths_.push_back(std::move(path)); }
  Result<void> run();

 private:
  const Layout& layout_;
  std::vector<std::string> paths_;
};

}  // namespace layerfs::store
