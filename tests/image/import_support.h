// SPDX-License-Identifier: Apache-2.0
// A store and a directory for sources, for the tests of import.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "fs/base/bytes.h"
#include "fs/base/sys_file.h"
#include "fs/image/importer.h"
#include "fs/store/store.h"
#include "tests/base/scratch_dir.h"
#include "tests/image/layout_builder.h"

namespace layerfs::image {

class ImportTest : public testing::Test {
 protected:
  void SetUp() override { store_ = open_store(); }

  std::unique_ptr<store::Store> open_store() const {
    auto opened = store::Store::open(dir_ / "store", store::StoreAccess::kWrite);
    EXPECT_TRUE(opened) << opened.error().message();
    return opened ? std::move(*opened) : nullptr;
  }

  std::string write_layout(const FileMap& files, const std::string& name = "layout") {
    EXPECT_TRUE(remove_tree(dir_ / name));
    write_files(dir_ / name, files);
    return dir_ / name;
  }

  Result<store::ImageRecord> import(const std::string& source) {
    return import_image(*store_, source, options_);
  }

  /// The message of an import that has to fail; afterwards nothing may be visible.
  std::string import_error(const std::string& source) {
    auto imported = import(source);
    if (imported) return "imported";
    auto images = store_->list_images();
    EXPECT_TRUE(images && images->empty()) << "an image is visible after: " << imported.error().message();
    return imported.error().message();
  }

  /// "path" of the image's merged tree.
  std::optional<tree::Entry> find(const store::ImageRecord& image, std::string_view path) {
    auto tree = tree_of(image);
    tree::Entry entry{tree::kRootIno, {}};
    while (!path.empty()) {
      std::size_t slash = std::min(path.find('/'), path.size());
      auto found = tree->find_entry(entry.ino, path.substr(0, slash));
      if (!found || !*found) return std::nullopt;
      entry = **found;
      path.remove_prefix(std::min(slash + 1, path.size()));
    }
    return entry;
  }

  std::shared_ptr<const tree::TreeSource> tree_of(const store::ImageRecord& image) {
    std::vector<Digest> diff_ids;
    for (const auto& layer : image.layers) diff_ids.push_back(layer.diff_id);
    auto tree = store_->get_tree(diff_ids);
    EXPECT_TRUE(tree) << tree.error().message();
    return *tree;
  }

  /// The bytes of a regular file or link of the tree; holes as zeros.
  std::string content(const store::ImageRecord& image, std::string_view path) {
    auto entry = find(image, path);
    if (!entry) return "(missing)";
    const tree::Node& node = entry->node;
    if (node.content == tree::ContentKind::kInline) return *tree_of(image)->get_inline(entry->ino);
    std::string bytes(node.size, '\0');
    if (node.content == tree::ContentKind::kNone) return bytes;
    auto blob = store_->objects().open(node.object);
    if (!blob) return blob.error().message();
    EXPECT_EQ(blob->size, node.size);
    auto got = pread_full(blob->file->get(), std::as_writable_bytes(std::span(bytes)), blob->offset);
    EXPECT_TRUE(got && *got == bytes.size());
    return bytes;
  }

  /// The layer's tar, put together from its framing.
  std::string framed_tar(const Digest& diff_id) {
    auto layer = store_->get_layer(diff_id);
    EXPECT_TRUE(layer) << layer.error().message();
    std::string tar;
    auto read = (*layer)->for_each_frame(
        [&](std::string_view raw, const Digest* digest, std::uint64_t size) -> Result<void> {
          if (digest == nullptr) {
            tar += raw;
            return {};
          }
          LAYERFS_ASSIGN(auto blob, store_->objects().open(*digest));
          std::string bytes(size, '\0');
          LAYERFS_TRY(pread_full(blob.file->get(), std::as_writable_bytes(std::span(bytes)), blob.offset));
          tar += bytes;
          return {};
        });
    EXPECT_TRUE(read) << read.error().message();
    return tar;
  }

  void expect_sound() {
    auto report = store_->check(store::CheckDepth::kContents);
    ASSERT_TRUE(report) << report.error().message();
    for (const auto& problem : report->problems) ADD_FAILURE() << problem.subject << ": " << problem.reason;
  }

  ScratchDir dir_;
  std::unique_ptr<store::Store> store_;
  ImportOptions options_;
};

/// One small layer.
inline std::string small_tar(const std::string& content = "hello") {
  return TarBuilder()
      .dir("etc/")
      .file("etc/motd", content)
      .add({.name = "bin", .type = '2', .link = "usr/bin"})
      .finish();
}

}  // namespace layerfs::image
