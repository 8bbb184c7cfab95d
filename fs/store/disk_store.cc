// SPDX-License-Identifier: Apache-2.0
#include "fs/store/disk_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "fs/base/bytes.h"
#include "fs/base/log.h"
#include "fs/base/scope_exit.h"
#include "fs/base/sha256.h"
#include "fs/base/sys_file.h"
#include "fs/store/disk_layers.h"

namespace layerfs::store {

namespace {

constexpr std::size_t kMaxBlobSize = std::size_t{64} << 20;
/// The lock that a mounted upper holds in its container's directory.
constexpr std::string_view kContainerLock = "lock";

bool is_container_id(std::string_view id) {
  return id.size() == 64 && id.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::string_view environment(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): main asks before there are threads
  return value == nullptr ? std::string_view{} : value;
}

/// Root of a user namespace often is nobody outside it: it has the system's directory only if it may write
/// there.
bool may_use_system_root(const char* root) {
  if (::geteuid() != 0) return false;
  if (::access(root, F_OK) == 0) return ::access(root, W_OK) == 0;
  return ::access("/var/lib", W_OK) == 0;
}

}  // namespace

std::string default_store_root() {
  constexpr const char* kSystemRoot = "/var/lib/layerfs";
  if (auto root = environment("LAYERFS_ROOT"); !root.empty()) return std::string(root);
  if (may_use_system_root(kSystemRoot)) return kSystemRoot;
  if (auto data = environment("XDG_DATA_HOME"); data.starts_with('/')) return join_path(data, "layerfs");
  if (auto home = environment("HOME"); home.starts_with('/')) return join_path(home, ".local/share/layerfs");
  return kSystemRoot;
}

std::vector<Digest> chain_ids(const std::vector<Digest>& diff_ids) {
  std::vector<Digest> chains;
  chains.reserve(diff_ids.size());
  for (const Digest& diff_id : diff_ids)
    chains.push_back(chains.empty() ? diff_id : sha256(chains.back().str() + ' ' + diff_id.str()));
  return chains;
}

Digest chain_id(const std::vector<Digest>& diff_ids) {
  return diff_ids.empty() ? Digest{} : chain_ids(diff_ids).back();
}

Result<std::unique_ptr<Store>> Store::open(const std::string& root, StoreAccess access) {
  if (root.empty()) return invalid_error("open store", root, "no directory is given");
  auto store = std::make_unique<DiskStore>(root, access);
  if (access == StoreAccess::kWrite) {
    if (auto made = store->create(); !made) return with_context(made.error(), "create store", root);
  }
  LAYERFS_TRY(store->open_files());
  return store;
}

Result<void> DiskStore::create() {
  LAYERFS_TRY(layout_.make_directories());
  LAYERFS_ASSIGN(bool created, layout_.is_created());
  if (created) return {};
  // The catalog is there before the store is: from then on one that is missing or empty is damage.
  LAYERFS_ASSIGN(auto catalog, CatalogDb::open(layout_.absolute(Layout::kCatalog), CatalogUse::kCreate));
  return layout_.finish_creation();
}

Result<void> DiskStore::open_files() {
  auto opened = layout_.open_root();
  if (!opened && opened.error().code == ENOENT) return system_error(ENOENT, "open store", layout_.root());
  if (opened) {
    LAYERFS_ASSIGN(unsigned version, layout_.read_version());
    opened = layout_.check_directories();
    if (opened && version < kStoreVersion && access_ == StoreAccess::kWrite) opened = layout_.raise_version();
  }
  if (opened) opened = open_catalog();
  if (!opened) return with_context(opened.error(), "open store", layout_.root());
  return {};
}

// A reader of a store that it may write opens the catalog for writing too, so that a process has one kind of
// environment only; it is the Store that refuses changes.
Result<void> DiskStore::open_catalog() {
  std::string path = layout_.absolute(Layout::kCatalog);
  read_only_disk_ = ::access(path.c_str(), W_OK) != 0;
  // LMDB would make an empty catalog where there is none, and follow a link to another one.
  std::string data = join_path(Layout::kCatalog, "data.mdb");
  LAYERFS_ASSIGN(auto there, layout_.own().find_stat(data));
  if (!there) return corrupt_error("open catalog", layout_.absolute(data), "the file is missing");
  if (!S_ISREG(there->st_mode))
    return corrupt_error("open catalog", layout_.absolute(data), "not a regular file");
  if (there->st_size == 0) return corrupt_error("open catalog", layout_.absolute(data), "the file is empty");
  LAYERFS_ASSIGN(auto lock, layout_.own().find_stat(join_path(Layout::kCatalog, "lock.mdb")));
  if (lock && !S_ISREG(lock->st_mode))
    return corrupt_error("open catalog", path, "its lock.mdb is no regular file");
  LAYERFS_ASSIGN(catalog_, CatalogDb::open(path, read_only_disk_ ? CatalogUse::kRead : CatalogUse::kWrite));
  LAYERFS_ASSIGN(struct stat opened, stat_fd(catalog_->env().data_fd()));
  if (opened.st_dev != there->st_dev || opened.st_ino != there->st_ino)
    return corrupt_error("open catalog", layout_.absolute(data), "another file came into its place");
  objects_ = std::make_unique<DiskObjects>(layout_, *catalog_);
  return {};
}

Result<Fd> DiskStore::begin_change() const {
  if (access_ != StoreAccess::kWrite) return system_error(EROFS, "change store", layout_.root());
  return layout_.lease();
}

Result<WriteLease> DiskStore::lease() {
  LAYERFS_ASSIGN(Fd fd, begin_change());
  return WriteLease(std::move(fd));
}

Result<std::unique_ptr<LayerWriter>> DiskStore::make_layer_writer() {
  LAYERFS_ASSIGN(Fd lease, begin_change());
  return store::make_layer_writer(layout_, std::move(lease));
}
Result<std::shared_ptr<const StoredLayer>> DiskStore::get_layer(const Digest& diff_id) {
  return open_layer(layout_, diff_id);
}
Result<bool> DiskStore::has_layer(const Digest& diff_id) {
  LAYERFS_ASSIGN(auto there, layout_.own().find_stat(layout_.layer(diff_id)));
  return there.has_value();
}

Result<void> DiskStore::put_blob(const Digest& digest, std::string_view bytes) {
  LAYERFS_ASSIGN(Fd lease, begin_change());
  if (bytes.size() > kMaxBlobSize)
    return invalid_error("store blob", digest.str(), "it is larger than 64 MiB");
  if (sha256(bytes) != digest)
    return invalid_error("store blob", digest.str(), "its bytes have another digest");
  if (auto present = get_blob(digest)) return {};
  std::string temporary = layout_.make_temporary_name("blob");
  ScopeExit remove_temporary([&] { layout_.drop_temporary(temporary); });
  {
    LAYERFS_ASSIGN(Fd fd, layout_.own().open(temporary, O_WRONLY | O_CREAT | O_EXCL, 0600));
    if (auto written = write_full(fd.get(), as_bytes(bytes)); !written)
      return with_context(written.error(), "store blob", digest.str());
    LAYERFS_TRY(sync_fd(fd.get()));
  }
  LAYERFS_TRY(layout_.own().rename(temporary, layout_.blob(digest)));
  remove_temporary.release();
  return layout_.own().sync(Layout::kBlobs);
}

Result<std::string> DiskStore::get_blob(const Digest& digest) {
  auto bytes = layout_.own().read(layout_.blob(digest), kMaxBlobSize);
  if (!bytes) {
    if (bytes.error().code == ENOENT) return system_error(ENOENT, "read blob", digest.str());
    return bytes;
  }
  if (sha256(*bytes) != digest)
    return corrupt_error("read blob", digest.str(), "its bytes have another digest");
  return bytes;
}

Result<void> Store::put_image(const ImageRecord& image) {
  return put_image_names(image, image.reference.empty() ? std::vector<std::string>{}
                                                        : std::vector<std::string>{image.reference});
}

Result<void> DiskStore::put_image_names(const ImageRecord& image,
                                        const std::vector<std::string>& references) {
  LAYERFS_ASSIGN(Fd lease, begin_change());
  for (const auto& reference : references) {
    if (reference.size() > kMaxKey)
      return invalid_error("name image", reference, "the reference is too long");
    LAYERFS_TRY(check_image_name(reference, image.manifest));
  }
  if (auto put = catalog_->put_image(image, references); !put)
    return with_context(put.error(), "name image", references.empty() ? std::string() : references.front());
  return {};
}
Result<std::optional<ImageRecord>> DiskStore::find_image(std::string_view reference) {
  return catalog_->find_image(reference);
}
Result<std::vector<ImageRecord>> DiskStore::list_images() { return catalog_->list_images(); }
Result<void> DiskStore::remove_image(std::string_view reference) {
  LAYERFS_ASSIGN(Fd lease, begin_change());
  LAYERFS_ASSIGN(bool there, catalog_->remove_image(reference));
  if (!there) return system_error(ENOENT, "remove image", reference);
  return {};
}

// The directory is there before the record names it; one without a record is gc's.
Result<void> DiskStore::add_container(const ContainerRecord& container) {
  LAYERFS_ASSIGN(Fd lease, begin_change());
  if (!is_container_id(container.id))
    return invalid_error("add container", container.id, "an id has 64 hex digits");
  if (container.name.empty() || container.name.size() > tree::kMaxName)
    return invalid_error("add container", container.name, "a name has 1 to 255 bytes");
  std::string directory = join_path(Layout::kContainers, container.id);
  LAYERFS_ASSIGN(auto there, layout_.own().find_stat(directory));
  if (there) return system_error(EEXIST, "add container", container.id);
  LAYERFS_TRY(layout_.own().make_dir(directory, 0700));
  auto added = layout_.own().sync(Layout::kContainers);
  if (added) added = catalog_->add_container(container);
  if (!added) {
    if (auto removed = layout_.own().remove(directory); !removed)
      log_warning("{}", removed.error().message());
  }
  return added;
}

Result<std::optional<ContainerRecord>> DiskStore::find_container(std::string_view name_or_id) {
  return catalog_->find_container(name_or_id);
}
Result<std::vector<ContainerRecord>> DiskStore::list_containers() { return catalog_->list_containers(); }

Result<void> DiskStore::remove_container(std::string_view id) {
  LAYERFS_ASSIGN(Fd lease, begin_change());
  if (!is_container_id(id)) return system_error(ENOENT, "remove container", id);
  std::string directory = join_path(Layout::kContainers, id);
  Fd lock;
  if (auto opened = layout_.own().open(join_path(directory, kContainerLock), O_RDWR)) {
    lock = std::move(*opened);
    LAYERFS_ASSIGN(bool free, lock_file(lock.get(), LockMode::kExclusive, LockWait::kNo));
    if (!free) return system_error(EBUSY, "remove container", id);
  } else if (opened.error().code != ENOENT) {
    return std::unexpected(opened.error());
  }
  LAYERFS_ASSIGN(bool there, catalog_->remove_container(id));
  if (!there) return system_error(ENOENT, "remove container", id);
  // Out of the way in one step: a crash in the middle of the removal leaves a temporary, not half a
  // container.
  std::string doomed = layout_.make_temporary_name("container");
  auto renamed = layout_.own().rename(directory, doomed);
  if (!renamed && renamed.error().code == ENOENT) return {};
  LAYERFS_TRY(renamed);
  return layout_.own().remove(doomed);
}

std::string DiskStore::container_dir(std::string_view id) const {
  return join_path(layout_.absolute(Layout::kContainers), id);
}

}  // namespace layerfs::store
