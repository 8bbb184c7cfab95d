// SPDX-License-Identifier: Apache-2.0
#include "fs/store/store_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "fs/base/bytes.h"
#include "fs/base/log.h"
#include "fs/base/scope_exit.h"
#include "fs/base/sha256.h"
#include "fs/base/sys_file.h"
#include "fs/store/layer_files.h"

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

Digest chain_id(const std::vector<Digest>& diff_ids) {
  Digest chain;
  for (std::size_t i = 0; i < diff_ids.size(); ++i)
    chain = i == 0 ? diff_ids[0] : sha256(chain.str() + ' ' + diff_ids[i].str());
  return chain;
}

Result<std::unique_ptr<Store>> Store::open(const std::string& root, StoreAccess access) {
  if (root.empty()) return invalid_error("open store", root, "no directory is given");
  Layout layout(root);
  if (access == StoreAccess::kWrite) {
    if (auto made = layout.create(); !made) return with_context(made.error(), "create store", root);
  }
  LAYERFS_TRY(layout.check_format());
  // A reader of a store that it may write opens the catalog for writing too, so that a process has one kind
  // of environment only; it is the Store that refuses changes.
  bool read_only_disk = ::access(layout.catalog().c_str(), W_OK) != 0;
  auto store = std::make_unique<StoreFiles>(root, access, read_only_disk);
  if (auto opened = store->open_catalog(); !opened) return with_context(opened.error(), "open store", root);
  return store;
}

Result<void> StoreFiles::open_catalog() {
  LAYERFS_ASSIGN(catalog_, CatalogDb::open(layout_.catalog(), read_only_disk_));
  objects_ = std::make_unique<ObjectFiles>(layout_, *catalog_);
  return {};
}

Result<Fd> StoreFiles::begin_change() const {
  if (access_ != StoreAccess::kWrite) return system_error(EROFS, "change store", layout_.root());
  return layout_.lease();
}

Result<WriteLease> StoreFiles::lease() {
  LAYERFS_ASSIGN(Fd fd, begin_change());
  return WriteLease(std::move(fd));
}

Result<std::unique_ptr<LayerWriter>> StoreFiles::make_layer_writer() {
  LAYERFS_ASSIGN(Fd lease, begin_change());
  return store::make_layer_writer(layout_, std::move(lease));
}
Result<std::shared_ptr<const StoredLayer>> StoreFiles::get_layer(const Digest& diff_id) {
  return open_layer(layout_, diff_id);
}
Result<bool> StoreFiles::has_layer(const Digest& diff_id) {
  LAYERFS_ASSIGN(auto there, find_stat_at(AT_FDCWD, layout_.layer(diff_id), 0));
  return there.has_value();
}

Result<void> StoreFiles::put_blob(const Digest& digest, std::string_view bytes) {
  LAYERFS_ASSIGN(Fd lease, begin_change());
  if (bytes.size() > kMaxBlobSize)
    return invalid_error("store blob", digest.str(), "it is larger than 64 MiB");
  if (sha256(bytes) != digest)
    return invalid_error("store blob", digest.str(), "its bytes have another digest");
  if (auto present = get_blob(digest)) return {};
  std::string temporary = layout_.make_temporary_name("blob");
  ScopeExit remove_temporary([&] { ::unlink(temporary.c_str()); });
  {
    LAYERFS_ASSIGN(Fd fd, open_file(temporary, O_WRONLY | O_CREAT | O_EXCL, 0600));
    if (auto written = write_full(fd.get(), as_bytes(bytes)); !written)
      return with_context(written.error(), "store blob", digest.str());
    LAYERFS_TRY(sync_fd(fd.get()));
  }
  LAYERFS_TRY(rename_file(temporary, layout_.blob(digest)));
  remove_temporary.release();
  return sync_dir(layout_.blobs());
}

Result<std::string> StoreFiles::get_blob(const Digest& digest) {
  auto bytes = read_file(layout_.blob(digest), kMaxBlobSize);
  if (!bytes) {
    if (bytes.error().code == ENOENT) return system_error(ENOENT, "read blob", digest.str());
    return bytes;
  }
  if (sha256(*bytes) != digest)
    return corrupt_error("read blob", digest.str(), "its bytes have another digest");
  return bytes;
}

Result<void> StoreFiles::put_image(const ImageRecord& image) {
  LAYERFS_ASSIGN(Fd lease, begin_change());
  if (image.reference.size() > kMaxKey)
    return invalid_error("name image", image.reference, "the reference is too long");
  if (auto put = catalog_->put_image(image); !put)
    return with_context(put.error(), "name image", image.reference);
  return {};
}
Result<std::optional<ImageRecord>> StoreFiles::find_image(std::string_view reference) {
  return catalog_->find_image(reference);
}
Result<std::vector<ImageRecord>> StoreFiles::list_images() { return catalog_->list_images(); }
Result<void> StoreFiles::remove_image(std::string_view reference) {
  LAYERFS_ASSIGN(Fd lease, begin_change());
  LAYERFS_ASSIGN(bool there, catalog_->remove_image(reference));
  if (!there) return system_error(ENOENT, "remove image", reference);
  return {};
}

// The directory is there before the record names it; one without a record is gc's.
Result<void> StoreFiles::add_container(const ContainerRecord& container) {
  LAYERFS_ASSIGN(Fd lease, begin_change());
  if (!is_container_id(container.id))
    return invalid_error("add container", container.id, "an id has 64 hex digits");
  if (container.name.empty() || container.name.size() > tree::kMaxName)
    return invalid_error("add container", container.name, "a name has 1 to 255 bytes");
  std::string directory = container_dir(container.id);
  if (::mkdir(directory.c_str(), 0700) != 0) return system_error(errno, "add container", container.id);
  auto added = sync_dir(layout_.containers());
  if (added) added = catalog_->add_container(container);
  if (!added && ::rmdir(directory.c_str()) != 0) log_warning("remove '{}': {}", directory, errno_text(errno));
  return added;
}

Result<std::optional<ContainerRecord>> StoreFiles::find_container(std::string_view name_or_id) {
  return catalog_->find_container(name_or_id);
}
Result<std::vector<ContainerRecord>> StoreFiles::list_containers() { return catalog_->list_containers(); }

Result<void> StoreFiles::remove_container(std::string_view id) {
  LAYERFS_ASSIGN(Fd lease, begin_change());
  if (!is_container_id(id)) return system_error(ENOENT, "remove container", id);
  std::string directory = container_dir(id);
  Fd lock;
  if (auto opened = open_file(join_path(directory, kContainerLock), O_RDWR)) {
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
  auto renamed = rename_file(directory, doomed);
  if (!renamed && renamed.error().code == ENOENT) return {};
  LAYERFS_TRY(renamed);
  return remove_tree(doomed);
}

std::string StoreFiles::container_dir(std::string_view id) const {
  return join_path(layout_.containers(), id);
}

}  // namespace layerfs::store
