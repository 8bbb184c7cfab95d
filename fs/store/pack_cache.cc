// SPDX-License-Identifier: Apache-2.0
#include "fs/store/pack_cache.h"

#include <fcntl.h>
#include <sys/resource.h>

#include <algorithm>
#include <mutex>
#include <span>

#include "fs/base/sys_file.h"
#include "fs/store/pack_file.h"

namespace layerfs::store {

Result<OpenPack> PackCache::open(std::uint64_t id) {
  std::uint64_t now = clock_.fetch_add(1, std::memory_order_relaxed);
  {
    std::shared_lock lock(mutex_);
    auto found = entries_.find(id);
    if (found != entries_.end()) {
      found->second.last_use.store(now, std::memory_order_relaxed);
      return found->second.pack;
    }
  }
  std::string path = layout_.pack(id);
  LAYERFS_ASSIGN(Fd fd, layout_.own().open(path, O_RDONLY));
  LAYERFS_TRY(check_pack_head(fd.get(), layout_.absolute(path)));
  LAYERFS_ASSIGN(struct stat st, stat_fd(fd.get()));
  OpenPack pack{std::make_shared<const Fd>(std::move(fd)), static_cast<std::uint64_t>(st.st_size)};
  std::unique_lock lock(mutex_);
  drop_removed_locked();
  auto& entry = entries_[id];
  entry.pack = pack;
  entry.last_use.store(now, std::memory_order_relaxed);
  if (entries_.size() > limit_) evict_locked();
  return pack;
}

void PackCache::forget(std::uint64_t id) {
  std::unique_lock lock(mutex_);
  entries_.erase(id);
}

void PackCache::drop_removed_locked() {
  std::erase_if(entries_, [](const auto& entry) {
    auto st = stat_fd(entry.second.pack.file->get());
    return st && st->st_nlink == 0;
  });
}

void PackCache::evict_locked() {
  auto oldest = std::min_element(entries_.begin(), entries_.end(), [](const auto& a, const auto& b) {
    return a.second.last_use.load(std::memory_order_relaxed) <
           b.second.last_use.load(std::memory_order_relaxed);
  });
  entries_.erase(oldest);
}

std::size_t default_pack_cache_limit() {
  struct rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 64;
  return std::clamp<std::size_t>(limit.rlim_cur / 4, 16, 256);
}

}  // namespace layerfs::store
