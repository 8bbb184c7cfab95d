// SPDX-License-Identifier: Apache-2.0
#include "fs/store/catalog_db.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "fs/base/check.h"

namespace layerfs::store {

namespace {

constexpr Dbi kObjects{0};
constexpr Dbi kImages{1};
constexpr Dbi kContainers{2};
constexpr Dbi kContainerNames{3};
const std::vector<std::string> kDatabases{"objects", "images", "containers", "container_names"};

/// Deleting dirties a page for nearly every digest, so a large sweep is several transactions.
constexpr std::size_t kRemoveBatch = 50'000;

/// A nameless image is kept under a byte that no reference begins with, and its manifest's digest.
constexpr char kNameless = '\0';
std::string nameless_key(const ImageRecord& image) {
  std::string key(1, kNameless);
  append_digest(key, image.manifest);
  return key;
}

Result<ImageRecord> image_of(std::string_view key, std::string_view value) {
  auto image = decode_image(value);
  if (!image) return corrupt_error("read catalog", key, "the image's record is damaged");
  return std::move(*image);
}

Result<std::vector<ImageRecord>> images_of(const Txn& txn) {
  LAYERFS_ASSIGN(Cursor cursor, Cursor::open(txn, kImages));
  std::vector<ImageRecord> images;
  LAYERFS_ASSIGN(bool more, cursor.first());
  while (more) {
    LAYERFS_ASSIGN(ImageRecord image, image_of(cursor.key(), cursor.value()));
    images.push_back(std::move(image));
    LAYERFS_ASSIGN(more, cursor.next());
  }
  return images;
}

Result<ContainerRecord> container_of(std::string_view key, std::string_view value) {
  auto container = decode_container(value);
  if (!container || container->id != key)
    return corrupt_error("read catalog", key, "the container's record is damaged");
  return std::move(*container);
}

Result<std::vector<ContainerRecord>> containers_of(const Txn& txn) {
  LAYERFS_ASSIGN(Cursor cursor, Cursor::open(txn, kContainers));
  std::vector<ContainerRecord> containers;
  LAYERFS_ASSIGN(bool more, cursor.first());
  while (more) {
    LAYERFS_ASSIGN(ContainerRecord container, container_of(cursor.key(), cursor.value()));
    containers.push_back(std::move(container));
    LAYERFS_ASSIGN(more, cursor.next());
  }
  return containers;
}

}  // namespace

/// A read transaction of this moment, from the pool and back.
class CatalogDb::Reading {
 public:
  Reading(Pool& pool, std::unique_ptr<Session> session) : session_(pool, std::move(session)) {}
  Reading(Reading&&) = default;
  ~Reading() {
    if (session_.has_session()) session_->txn.reset();
  }
  const ReadTxn& txn() const { return session_->txn; }

 private:
  Pool::Held session_;
};

Result<CatalogDb::Reading> CatalogDb::read() const {
  auto session = pool_.take();
  if (session) {
    LAYERFS_TRY(session->txn.renew());
  } else {
    LAYERFS_ASSIGN(ReadTxn txn, ReadTxn::begin(*env_));
    session.reset(new Session{std::move(txn)});
  }
  return Reading(pool_, std::move(session));
}

Result<std::unique_ptr<CatalogDb>> CatalogDb::open(const std::string& directory, CatalogUse use) {
  std::unique_ptr<CatalogDb> catalog(new CatalogDb);
  EnvOptions options;
  options.databases = kDatabases;
  options.read_only = use == CatalogUse::kRead;
  LAYERFS_ASSIGN(catalog->env_, Env::open(directory, options));
  return catalog;
}

Result<std::optional<ObjectLocation>> CatalogDb::find_object(const Digest& digest) const {
  LAYERFS_ASSIGN(auto reading, read());
  LAYERFS_ASSIGN(auto value, reading.txn().find(kObjects, digest_key(digest)));
  if (!value) return std::nullopt;
  pages_.touched(value->data());
  auto location = decode_location(*value);
  if (!location) return corrupt_error("read catalog", digest.str(), "the object's row is damaged");
  return location;
}

Result<void> CatalogDb::add_objects(const std::vector<ObjectRow>& rows, std::vector<bool>& kept) {
  kept.assign(rows.size(), false);
  if (rows.empty()) return {};
  LAYERFS_ASSIGN(WriteTxn txn, WriteTxn::begin(*env_));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    LAYERFS_ASSIGN(kept[i], txn.put(kObjects, digest_key(rows[i].digest), encode_location(rows[i].location),
                                    PutMode::kInsert));
  }
  return txn.commit();
}

Result<void> CatalogDb::move_objects(const std::vector<ObjectRow>& rows) {
  LAYERFS_ASSIGN(WriteTxn txn, WriteTxn::begin(*env_));
  for (const auto& row : rows) {
    LAYERFS_ASSIGN(auto present, txn.find(kObjects, digest_key(row.digest)));
    if (present) LAYERFS_TRY(txn.put(kObjects, digest_key(row.digest), encode_location(row.location)));
  }
  return txn.commit();
}

Result<void> CatalogDb::remove_objects(const std::vector<Digest>& digests) {
  for (std::size_t start = 0; start < digests.size(); start += kRemoveBatch) {
    LAYERFS_ASSIGN(WriteTxn txn, WriteTxn::begin(*env_));
    std::size_t end = std::min(digests.size(), start + kRemoveBatch);
    for (std::size_t i = start; i < end; ++i) LAYERFS_TRY(txn.erase(kObjects, digest_key(digests[i])));
    LAYERFS_TRY(txn.commit());
  }
  return {};
}

Result<void> CatalogDb::for_each_object(FunctionRef<bool(const ObjectRow&)> visit) const {
  LAYERFS_ASSIGN(auto reading, read());
  LAYERFS_ASSIGN(Cursor cursor, Cursor::open(reading.txn(), kObjects));
  LAYERFS_ASSIGN(bool more, cursor.first());
  while (more) {
    auto location = decode_location(cursor.value());
    if (cursor.key().size() != Digest::kSize || !location)
      return corrupt_error("read catalog", {}, "an object's row is damaged");
    if (!visit(ObjectRow{digest_of_key(cursor.key()), *location})) return {};
    LAYERFS_ASSIGN(more, cursor.next());
  }
  return {};
}

Result<void> CatalogDb::put_image(const ImageRecord& image, const std::vector<std::string>& references) {
  LAYERFS_ASSIGN(WriteTxn txn, WriteTxn::begin(*env_));
  if (references.empty()) {
    LAYERFS_TRY(txn.put(kImages, nameless_key(image), encode_image(image)));
    return txn.commit();
  }
  // How many names each image has that loses one now; with none left it is kept without, until gc.
  std::unordered_map<Digest, std::size_t> names;
  std::vector<ImageRecord> losers;
  for (const auto& reference : references) {
    LAYERFS_ASSIGN(auto old_value, txn.find(kImages, reference));
    if (!old_value) continue;
    LAYERFS_ASSIGN(ImageRecord old, image_of(reference, *old_value));
    if (old.manifest != image.manifest) losers.push_back(std::move(old));
  }
  if (!losers.empty()) {
    LAYERFS_ASSIGN(auto images, images_of(txn));
    for (const auto& each : images)
      if (!each.reference.empty()) ++names[each.manifest];
  }
  for (auto& old : losers) {
    if (--names[old.manifest] > 0) continue;
    old.reference.clear();
    LAYERFS_TRY(txn.put(kImages, nameless_key(old), encode_image(old)));
  }
  ImageRecord named = image;
  for (const auto& reference : references) {
    named.reference = reference;
    LAYERFS_TRY(txn.put(kImages, reference, encode_image(named)));
  }
  // It has a name now, if it was kept without one.
  LAYERFS_TRY(txn.erase(kImages, nameless_key(image)));
  return txn.commit();
}

Result<std::optional<ImageRecord>> CatalogDb::find_image(std::string_view reference) const {
  if (reference.empty() || reference.front() == kNameless) return std::nullopt;
  LAYERFS_ASSIGN(auto reading, read());
  LAYERFS_ASSIGN(auto value, reading.txn().find(kImages, reference));
  if (!value) return std::nullopt;
  LAYERFS_ASSIGN(ImageRecord image, image_of(reference, *value));
  return image;
}

Result<std::vector<ImageRecord>> CatalogDb::list_images() const {
  LAYERFS_ASSIGN(auto reading, read());
  return images_of(reading.txn());
}

Result<CatalogRoots> CatalogDb::list_roots() const {
  LAYERFS_ASSIGN(auto reading, read());
  CatalogRoots roots;
  LAYERFS_ASSIGN(roots.images, images_of(reading.txn()));
  LAYERFS_ASSIGN(roots.containers, containers_of(reading.txn()));
  return roots;
}

Result<bool> CatalogDb::remove_image(std::string_view reference) {
  std::string key(reference);
  if (auto manifest = parse_digest(reference)) {
    ImageRecord nameless;
    nameless.manifest = *manifest;
    key = nameless_key(nameless);
  }
  LAYERFS_ASSIGN(WriteTxn txn, WriteTxn::begin(*env_));
  LAYERFS_ASSIGN(bool there, txn.erase(kImages, key));
  LAYERFS_TRY(txn.commit());
  return there;
}

Result<std::uint64_t> CatalogDb::remove_nameless_images() {
  LAYERFS_ASSIGN(WriteTxn txn, WriteTxn::begin(*env_));
  std::uint64_t count = 0;
  {
    LAYERFS_ASSIGN(Cursor cursor, Cursor::open(txn, kImages));
    LAYERFS_ASSIGN(bool more, cursor.first());
    while (more && cursor.key().starts_with(kNameless)) {
      LAYERFS_TRY(cursor.erase());
      ++count;
      LAYERFS_ASSIGN(more, cursor.first());
    }
  }
  if (count > 0) LAYERFS_TRY(txn.commit());
  return count;
}

Result<void> CatalogDb::add_container(const ContainerRecord& container) {
  LAYERFS_ASSIGN(WriteTxn txn, WriteTxn::begin(*env_));
  LAYERFS_ASSIGN(bool id_free,
                 txn.put(kContainers, container.id, encode_container(container), PutMode::kInsert));
  if (!id_free) return system_error(EEXIST, "add container", container.id);
  LAYERFS_ASSIGN(bool name_free, txn.put(kContainerNames, container.name, container.id, PutMode::kInsert));
  if (!name_free) return system_error(EEXIST, "add container", container.name);
  return txn.commit();
}

Result<std::optional<ContainerRecord>> CatalogDb::find_container(std::string_view name_or_id) const {
  LAYERFS_ASSIGN(auto reading, read());
  std::string id(name_or_id);
  LAYERFS_ASSIGN(auto named, reading.txn().find(kContainerNames, name_or_id));
  if (named) id = *named;
  if (id.empty() || id.size() > kMaxKey) return std::nullopt;
  LAYERFS_ASSIGN(Cursor cursor, Cursor::open(reading.txn(), kContainers));
  LAYERFS_ASSIGN(bool found, cursor.find_at_or_after(id));
  if (!found || !cursor.key().starts_with(id)) return std::nullopt;
  LAYERFS_ASSIGN(ContainerRecord container, container_of(cursor.key(), cursor.value()));
  if (container.id == id) return container;
  LAYERFS_ASSIGN(bool another, cursor.next());
  if (another && cursor.key().starts_with(id))
    return invalid_error("find container", name_or_id, "more than one id begins so");
  return container;
}

Result<std::vector<ContainerRecord>> CatalogDb::list_containers() const {
  LAYERFS_ASSIGN(auto reading, read());
  return containers_of(reading.txn());
}

Result<bool> CatalogDb::remove_container(std::string_view id) {
  LAYERFS_ASSIGN(WriteTxn txn, WriteTxn::begin(*env_));
  LAYERFS_ASSIGN(auto value, txn.find(kContainers, id));
  if (!value) return false;
  LAYERFS_ASSIGN(ContainerRecord container, container_of(id, *value));
  LAYERFS_TRY(txn.erase(kContainers, id));
  LAYERFS_TRY(txn.erase(kContainerNames, container.name));
  LAYERFS_TRY(txn.commit());
  return true;
}

Result<void> CatalogDb::free_dead_readers() const {
  LAYERFS_TRY(env_->free_dead_readers());
  return {};
}

}  // namespace layerfs::store
