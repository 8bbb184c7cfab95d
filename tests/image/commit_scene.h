// SPDX-License-Identifier: Apache-2.0
// A store with a base image, a union over its tree with an upper in memory, and commits of that.
#pragma once

#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "fs/image/commit.h"
#include "fs/union/union_fs.h"
#include "fs/upper/memory_upper.h"
#include "tests/image/import_support.h"

namespace layerfs::image {

class CommitScene : public ImportTest {
 protected:
  using Ino = tree::Ino;

  /// Imports an image of these layers and puts an empty upper over it.
  void start(const std::vector<std::string>& tars) {
    LayoutBuilder builder;
    auto manifest = builder.add_image(tars);
    options_.name = "base";
    auto imported = import("oci:" + write_layout(builder.finish({LayoutBuilder::tagged(manifest, "x")})));
    ASSERT_TRUE(imported) << imported.error().message();
    start_over(*imported);
  }

  void start_over(const store::ImageRecord& image) {
    container_ = {};
    container_.image_reference = image.reference;
    container_.image_manifest = image.manifest;
    container_.image_config = image.config;
    container_.chain = image.chain;
    for (const auto& layer : image.layers) container_.layers.push_back(layer.diff_id);
    union_.reset();
    upper_ = upper::make_memory_upper();
    lower_ = tree_of(image);
    // The store outlives the union.
    std::shared_ptr<const tree::BlobSource> blobs(std::shared_ptr<void>(), &store_->objects());
    auto made = unionfs::UnionFs::make(lower_, blobs, upper_, {});
    ASSERT_TRUE(made) << made.error().message();
    union_ = std::move(*made);
  }

  Result<store::ImageRecord> commit(const std::string& reference, CommitOptions options = {}) {
    if (options.created == 0) options.created = 1764547200;
    return commit_upper(*store_, container_, *lower_, *upper_, reference, options);
  }
  store::ImageRecord committed(const std::string& reference, CommitOptions options = {}) {
    auto image = commit(reference, std::move(options));
    EXPECT_TRUE(image) << image.error().message();
    return image ? *image : store::ImageRecord{};
  }

  /// The inode at a path of the union.
  Ino at(std::string_view path) {
    Ino ino = tree::kRootIno;
    while (!path.empty()) {
      std::size_t slash = std::min(path.find('/'), path.size());
      auto entry = union_->lookup(ino, path.substr(0, slash));
      if (!entry) {
        ADD_FAILURE() << path << ": " << entry.error().message();
        return ino;
      }
      ino = entry->ino;
      path.remove_prefix(std::min(slash + 1, path.size()));
    }
    return ino;
  }
  Ino make_file(Ino dir, const std::string& name, std::string_view content) {
    auto made = union_->mknod(dir, name, S_IFREG | 0644, 0, {});
    EXPECT_TRUE(made) << made.error().message();
    if (!content.empty()) {
      EXPECT_TRUE(union_->write(made->ino, 0, as_bytes(content), {}, {}));
    }
    return made->ino;
  }

  store::ContainerRecord container_;
  std::shared_ptr<const tree::TreeSource> lower_;
  std::shared_ptr<tree::UpperLayer> upper_;
  std::unique_ptr<unionfs::UnionFs> union_;
};

}  // namespace layerfs::image
