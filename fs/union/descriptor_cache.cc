// SPDX-License-Identifier: Apache-2.0
#include "fs/union/descriptor_cache.h"

#include <sys/resource.h>

#include <algorithm>

namespace layerfs::unionfs {

DescriptorCache::DescriptorCache(const tree::BlobSource* blobs, tree::UpperLayer* upper, std::size_t capacity)
    : blobs_(blobs), upper_(upper), shard_capacity_(std::max<std::size_t>(1, capacity / kShards)) {}

std::size_t DescriptorCache::default_capacity() {
  struct rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 64;
  return static_cast<std::size_t>(std::clamp<rlim_t>(limit.rlim_cur / 4, 16, 4096));
}

std::uint64_t DescriptorCache::hash_of(const Key& key) {
  if (const auto* ino = std::get_if<tree::Ino>(&key)) return std::hash<tree::Ino>{}(*ino);
  if (const auto* place = std::get_if<SharedPlace>(&key)) return std::hash<tree::Ino>{}(place->ino) + 1;
  return std::hash<Digest>{}(std::get<Digest>(key));
}

std::size_t DescriptorCache::Hash::operator()(const Key& key) const noexcept {
  // Multiplied once more: the shard is chosen by low bits, which std::hash<Digest> takes from anywhere.
  return (hash_of(key) * 0x9E3779B97F4A7C15ULL) >> 17;
}

template <class Open>
Result<tree::Blob> DescriptorCache::get(const Key& key, Open open) {
  Shard& of = shard(key);
  {
    std::lock_guard hold(of.mutex);
    if (auto found = of.items.find(key); found != of.items.end()) {
      of.recent.splice(of.recent.begin(), of.recent, found->second);
      return found->second->blob;
    }
  }
  // Opened without the lock: the store may have to fetch or unpack it. Two that open one file at once both
  // succeed, and the first stays.
  Result<tree::Blob> opened = open();
  if (!opened && (opened.error().code == EMFILE || opened.error().code == ENFILE)) {
    drop_all();
    opened = open();
  }
  if (!opened) return opened;
  std::list<Item> closed;  // destroyed, and so closed, without the lock
  std::lock_guard hold(of.mutex);
  auto [place, is_new] = of.items.try_emplace(key);
  if (!is_new) return place->second->blob;
  of.recent.push_front(Item{key, *opened});
  place->second = of.recent.begin();
  while (of.recent.size() > shard_capacity_) {
    of.items.erase(of.recent.back().key);
    closed.splice(closed.begin(), of.recent, std::prev(of.recent.end()));
  }
  return opened;
}

Result<tree::Blob> DescriptorCache::open_object(const Digest& digest) {
  if (!blobs_) return corrupt_error("open object", digest.str(), "there is no object store");
  return get(digest, [&] { return blobs_->open(digest); });
}

Result<std::shared_ptr<const Fd>> DescriptorCache::open_data(tree::Ino ino) {
  LAYERFS_ASSIGN(tree::Blob blob, get(ino, [&]() -> Result<tree::Blob> {
                   LAYERFS_ASSIGN(auto file, upper_->open_data(ino));
                   return tree::Blob{std::move(file), 0, 0};
                 }));
  return std::move(blob.file);
}

Result<std::shared_ptr<const Fd>> DescriptorCache::create_data(tree::Ino ino) {
  LAYERFS_ASSIGN(tree::Blob blob, get(ino, [&]() -> Result<tree::Blob> {
                   LAYERFS_ASSIGN(auto file, upper_->create_data(ino));
                   return tree::Blob{std::move(file), 0, 0};
                 }));
  return std::move(blob.file);
}

template <class Open>
Result<tree::DataPlace> DescriptorCache::get_shared(tree::Ino ino, Open open) {
  LAYERFS_ASSIGN(tree::Blob blob, get(SharedPlace{ino}, [&]() -> Result<tree::Blob> {
                   LAYERFS_ASSIGN(tree::DataPlace place, open());
                   return tree::Blob{std::move(place.file), place.offset, place.limit};
                 }));
  return tree::DataPlace{std::move(blob.file), blob.offset, blob.size};
}

Result<tree::DataPlace> DescriptorCache::open_shared(tree::Ino ino) {
  return get_shared(ino, [&] { return upper_->open_shared(ino); });
}

Result<tree::DataPlace> DescriptorCache::create_shared(tree::Ino ino) {
  drop(SharedPlace{ino});  // of an attempt that failed: the upper is to know of this one
  return get_shared(ino, [&] { return upper_->create_shared(ino); });
}

void DescriptorCache::drop_data(tree::Ino ino) {
  drop(ino);
  drop(SharedPlace{ino});
}

void DescriptorCache::drop(const Key& key) {
  std::list<Item> closed;
  Shard& of = shard(key);
  std::lock_guard hold(of.mutex);
  auto found = of.items.find(key);
  if (found == of.items.end()) return;
  closed.splice(closed.begin(), of.recent, found->second);
  of.items.erase(found);
}

void DescriptorCache::drop_all() {
  for (Shard& of : shards_) {
    std::list<Item> closed;
    std::lock_guard hold(of.mutex);
    closed.swap(of.recent);
    of.items.clear();
  }
}

std::size_t DescriptorCache::size() const {
  std::size_t total = 0;
  for (const Shard& of : shards_) {
    std::lock_guard hold(of.mutex);
    total += of.items.size();
  }
  return total;
}

}  // namespace layerfs::unionfs
