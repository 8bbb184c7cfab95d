// SPDX-License-Identifier: Apache-2.0
// DiskStore: the Store on disk. disk_store.cc has opening, blobs, images and containers; store_trees.cc,
// sent_blobs.cc, gc.cc, check.cc and usage.cc what their names say.
#pragma once

#include <memory>
#include <mutex>

#include "fs/store/catalog_db.h"
#include "fs/store/disk_objects.h"
#include "fs/store/layout.h"
#include "fs/store/store.h"
#include "fs/store/tree_file.h"
#include "fs/tree/memory_tree.h"

namespace layerfs::store {

class DiskStore final : public Store {
 public:
  DiskStore(std::string root, StoreAccess access) : layout_(std::move(root)), access_(access) {}
  /// Makes what is missing of an empty store. Errors: those of Layout and of CatalogDb.
  Result<void> create();
  Result<void> open_files();

  const std::string& root() const override { return layout_.root(); }
  Result<WriteLease> lease() override;
  ObjectStore& objects() override { return *objects_; }

  Result<std::unique_ptr<LayerWriter>> make_layer_writer() override;
  Result<std::shared_ptr<const StoredLayer>> get_layer(const Digest& diff_id) override;
  Result<bool> has_layer(const Digest& diff_id) override;
  Result<std::vector<SentBlob>> sent_blobs(const Digest& diff_id) override;
  Result<void> remember_sent_blob(const Digest& diff_id, const SentBlob& blob) override;
  using Store::get_tree;
  Result<std::shared_ptr<const tree::TreeSource>> get_tree(const std::vector<Digest>& diff_ids,
                                                           const tree::MergeLimits& limits) override;

  Result<void> put_blob(const Digest& digest, std::string_view bytes) override;
  Result<std::string> get_blob(const Digest& digest) override;

  Result<void> put_image_names(const ImageRecord& image, const std::vector<std::string>& references) override;
  Result<std::optional<ImageRecord>> find_image(std::string_view reference) override;
  Result<std::vector<ImageRecord>> list_images() override;
  Result<void> remove_image(std::string_view reference) override;

  Result<void> add_container(const ContainerRecord& container) override;
  Result<std::optional<ContainerRecord>> find_container(std::string_view name_or_id) override;
  Result<std::vector<ContainerRecord>> list_containers() override;
  Result<void> remove_container(std::string_view id) override;
  std::string container_dir(std::string_view id) const override;

  Result<UsageReport> usage() override;
  Result<GcReport> gc(GcWait wait) override;
  Result<CheckReport> check(CheckDepth depth) override;

 private:
  Result<void> open_catalog();
  /// The lease of a change. Errors: EROFS where the store was opened for reading.
  Result<Fd> begin_change() const;
  /// nullopt: there is none, or a damaged one (which is logged).
  Result<std::optional<std::shared_ptr<const TreeFile>>> find_tree(const Digest& chain) const;
  Result<tree::MemoryTree> build_tree(const std::vector<Digest>& diff_ids, const tree::MergeLimits& limits);

  Layout layout_;
  StoreAccess access_;
  bool read_only_disk_ = false;
  std::mutex sent_mutex_;  ///< held while a layer's `sent` is read and written anew
  std::unique_ptr<CatalogDb> catalog_;
  std::unique_ptr<DiskObjects> objects_;
};

}  // namespace layerfs::store
