// SPDX-License-Identifier: Apache-2.0
// DescriptorCache: the open descriptors of objects and data files, the least recently used closed first. Any
// thread.
//
// (1) It holds at most `capacity` of them, chosen from RLIMIT_NOFILE: however many files are open on the
//     mount, the server has no descriptor for each. What a caller still holds stays open beyond that, for its
//     call.
// (2) EMFILE and ENFILE from below: everything is dropped and the open is tried once more.
#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <variant>

#include "fs/base/digest.h"
#include "fs/base/fd.h"
#include "fs/base/result.h"
#include "fs/tree/blob_source.h"
#include "fs/tree/upper_layer.h"

namespace layerfs::unionfs {

class DescriptorCache {
 public:
  /// `blobs` and `upper` may be null where nothing of theirs is asked for. They must outlive the cache.
  DescriptorCache(const tree::BlobSource* blobs, tree::UpperLayer* upper, std::size_t capacity);

  /// A quarter of the soft RLIMIT_NOFILE, 16 to 4096: the store and the upper hold some of their own.
  static std::size_t default_capacity();

  /// Errors: those of BlobSource::open; EIO where there is no source.
  Result<tree::Blob> open_object(const Digest& digest);
  /// Errors: those of UpperLayer::open_data.
  Result<std::shared_ptr<const Fd>> open_data(tree::Ino ino);
  /// Errors: those of UpperLayer::create_data.
  Result<std::shared_ptr<const Fd>> create_data(tree::Ino ino);
  /// Errors: those of UpperLayer::open_shared.
  Result<tree::DataPlace> open_shared(tree::Ino ino);
  /// Errors: those of UpperLayer::create_shared.
  Result<tree::DataPlace> create_shared(tree::Ino ino);
  /// For data that is gone.
  void drop_data(tree::Ino ino);
  void drop_all();
  std::size_t size() const;

 private:
  static constexpr std::size_t kShards = 8;
  struct SharedPlace {  // in a shared file
    tree::Ino ino;
    bool operator==(const SharedPlace&) const = default;
  };
  using Key = std::variant<tree::Ino, Digest, SharedPlace>;
  struct Hash {
    std::size_t operator()(const Key& key) const noexcept;
  };
  struct Item {
    Key key;
    tree::Blob blob;
  };
  struct alignas(64) Shard {
    mutable std::mutex mutex;  // guards both
    std::list<Item> recent;    // the most recently used first
    std::unordered_map<Key, std::list<Item>::iterator, Hash> items;
  };

  static std::uint64_t hash_of(const Key& key);
  template <class Open>
  Result<tree::DataPlace> get_shared(tree::Ino ino, Open open);
  void drop(const Key& key);
  template <class Open>
  Result<tree::Blob> get(const Key& key, Open open);
  Shard& shard(const Key& key) { return shards_[Hash{}(key) % kShards]; }

  const tree::BlobSource* blobs_;
  tree::UpperLayer* upper_;
  std::size_t shard_capacity_;
  std::array<Shard, kShards> shards_;
};

}  // namespace layerfs::unionfs
