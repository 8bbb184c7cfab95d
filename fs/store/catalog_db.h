// SPDX-License-Identifier: Apache-2.0
// CatalogDb: the catalog's databases in one LMDB environment: objects, images, containers and their names
// (FORMAT.md, "Catalog").
//
// (1) Any thread. Reads are transactions of microseconds; a change is one transaction, durable on return.
// (2) A row that does not decode is kCorrupt naming it, never skipped.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/function_ref.h"
#include "fs/base/result.h"
#include "fs/store/catalog.h"
#include "fs/store/format.h"
#include "fs/store/lmdb.h"
#include "fs/store/mapped_pages.h"
#include "fs/store/session_pool.h"

namespace layerfs::store {

struct ObjectRow {
  Digest digest;
  ObjectLocation location;
};

enum class CatalogUse : std::uint8_t { kRead, kWrite, kCreate };

/// What the catalog knows of images and containers at one moment.
struct CatalogRoots {
  std::vector<ImageRecord> images;
  std::vector<ContainerRecord> containers;
};

class CatalogDb {
 public:
  /// Opens `directory`; LMDB's files in it are made with kCreate (and kWrite). Errors: as Env::open.
  static Result<std::unique_ptr<CatalogDb>> open(const std::string& directory, CatalogUse use);

  Result<std::optional<ObjectLocation>> find_object(const Digest& digest) const;
  /// Names objects; one that has a row keeps it. Sets `kept[i]` where row i is now the store's. Requires:
  /// sorted by digest (so that pages are touched in order), all on disk.
  Result<void> add_objects(const std::vector<ObjectRow>& rows, std::vector<bool>& kept);
  /// Gives objects new places. Those without a row stay without.
  Result<void> move_objects(const std::vector<ObjectRow>& rows);
  Result<void> remove_objects(const std::vector<Digest>& digests);
  /// In order of the digests. False stops. The visitor must not take long (invariant 1).
  Result<void> for_each_object(FunctionRef<bool(const ObjectRow&)> visit) const;

  /// Puts one image under several references, all of them or none: what it costs grows with the images there
  /// are and the names that are put, not with their product. With none it is kept nameless. Requires: no
  /// reference is empty.
  Result<void> put_image(const ImageRecord& image, const std::vector<std::string>& references);
  Result<std::optional<ImageRecord>> find_image(std::string_view reference) const;
  /// In order of the references; nameless ones (reference empty) first.
  Result<std::vector<ImageRecord>> list_images() const;
  /// Images and containers of one moment.
  Result<CatalogRoots> list_roots() const;
  /// By reference; a nameless one by the digest (`sha256:...`) of its manifest. False where it was not there.
  Result<bool> remove_image(std::string_view reference);
  /// Returns how many there were.
  Result<std::uint64_t> remove_nameless_images();

  /// Errors: EEXIST where name or id is taken.
  Result<void> add_container(const ContainerRecord& container);
  Result<std::optional<ContainerRecord>> find_container(std::string_view name_or_id) const;
  Result<std::vector<ContainerRecord>> list_containers() const;
  Result<bool> remove_container(std::string_view id);

  Result<void> free_dead_readers() const;
  const Env& env() const { return *env_; }

 private:
  struct Session {
    ReadTxn txn;
  };
  using Pool = SessionPool<Session, 4>;  // each kept one is a reader slot of the environment
  class Reading;

  CatalogDb() = default;
  Result<Reading> read() const;

  std::shared_ptr<Env> env_;   // before pool_: sessions die first
  mutable MappedPages pages_;  // objects are looked up by digest, so all over the map
  mutable Pool pool_;
};

}  // namespace layerfs::store
