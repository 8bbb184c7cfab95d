// SPDX-License-Identifier: Apache-2.0
// PackCache: open descriptors of pack files, so that opening a packed object costs no system call.
//
// (1) Any thread. A descriptor that is given out lives as long as its holder, also when the cache has let go
//     of it or gc has removed the pack.
// (2) At most `limit` descriptors are kept; the one that was used longest ago goes first. Those of packs that
//     another process has removed go whenever another pack is opened, so that their space comes back.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <shared_mutex>
#include <unordered_map>

#include "fs/base/fd.h"
#include "fs/base/result.h"
#include "fs/store/layout.h"

namespace layerfs::store {

struct OpenPack {
  std::shared_ptr<const Fd> file;
  std::uint64_t size = 0;
};

class PackCache {
 public:
  /// Requires: `layout` outlives the cache.
  PackCache(const Layout& layout, std::size_t limit) : layout_(layout), limit_(limit) {}
  /// Errors: ENOENT, EMFILE, EIO; kCorrupt where the file is no pack.
  Result<OpenPack> open(std::uint64_t id);
  void forget(std::uint64_t id);

 private:
  struct Entry {
    OpenPack pack;
    std::atomic<std::uint64_t> last_use{0};
  };
  void drop_removed_locked();
  void evict_locked();

  const Layout& layout_;
  const std::size_t limit_;
  std::atomic<std::uint64_t> clock_{0};
  std::shared_mutex mutex_;
  std::unordered_map<std::uint64_t, Entry> entries_;  // guarded by mutex_, but for last_use
};

/// A quarter of the descriptors that the process may have, 16 to 256: others need some too.
std::size_t default_pack_cache_limit();

}  // namespace layerfs::store
