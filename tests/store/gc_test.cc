// SPDX-License-Identifier: Apache-2.0
// gc: what is needed stays readable, what is not goes, nothing is left of writers that died.
#include <fcntl.h>
#include <sys/wait.h>

#include "fs/store/pack_file.h"
#include "tests/store/support.h"

namespace layerfs::store {
namespace {

using tree::kRootIno;

class GcTest : public StoreTest {
 protected:
  bool has(std::string_view content) { return value_of(store_->objects().contains(sha256(content))); }
  std::string read(std::string_view content) {
    return read_blob(value_of(store_->objects().open(sha256(content))));
  }
};

TEST_F(GcTest, AnEmptyStoreStaysEmpty) {
  auto report = value_of(store_->gc());
  EXPECT_EQ(report.objects_removed + report.layers_removed + report.leftovers_removed, 0U);
  EXPECT_TRUE(files_of(root_).empty());
}

TEST_F(GcTest, WhatAnImageNeedsStays) {
  std::string large = random_bytes(100'000, 1);
  auto image =
      value_of(write_image(*store_, "localhost/a:1", {{{"a", "small"}, {"b", large}}, {{"c", "third"}}}));
  ASSERT_DONE(store_->get_tree(diff_ids_of(image)));
  auto before = files_of(root_);
  auto report = value_of(store_->gc());
  EXPECT_EQ(report.bytes_freed, 0U);
  EXPECT_EQ(files_of(root_), before);
  EXPECT_EQ(problems_of(*store_), "");
}

TEST_F(GcTest, NothingStaysOfARemovedImage) {
  auto image =
      value_of(write_image(*store_, "localhost/a:1", {{{"a", "small"}, {"b", random_bytes(100'000, 1)}}}));
  ASSERT_DONE(store_->get_tree(diff_ids_of(image)));
  ASSERT_DONE(store_->remove_image("localhost/a:1"));
  auto report = value_of(store_->gc());
  EXPECT_EQ(report.objects_removed, 2U);
  EXPECT_EQ(report.layers_removed, 1U);
  EXPECT_EQ(report.trees_removed, 1U);
  EXPECT_EQ(report.blobs_removed, 2U);
  EXPECT_GT(report.bytes_freed, 100'000U);
  EXPECT_TRUE(files_of(root_).empty());
  EXPECT_EQ(problems_of(*store_), "");
}

TEST_F(GcTest, SharedLayersAndObjectsStayForTheOtherImage) {
  std::vector<TestFile> base = {{"a", "shared file"}, {"b", "only in the base"}};
  value_of(write_image(*store_, "localhost/a:1", {base, {{"c", "only in a"}}}));
  auto kept = value_of(write_image(*store_, "localhost/b:1", {base, {{"d", "only in b"}}}));
  ASSERT_DONE(store_->remove_image("localhost/a:1"));
  auto report = value_of(store_->gc());
  EXPECT_EQ(report.layers_removed, 1U);
  EXPECT_FALSE(has("only in a"));
  EXPECT_EQ(read("shared file"), "shared file");
  EXPECT_EQ(read("only in b"), "only in b");
  ASSERT_DONE(store_->get_tree(diff_ids_of(kept)));
  EXPECT_EQ(problems_of(*store_), "");
}

TEST_F(GcTest, NamelessImagesGo) {
  value_of(write_image(*store_, "localhost/a:1", {{{"a", "old"}}}));
  value_of(write_image(*store_, "localhost/a:1", {{{"a", "new"}}}));
  value_of(store_->gc());
  EXPECT_EQ(value_of(store_->list_images()).size(), 1U);
  EXPECT_FALSE(has("old"));
  EXPECT_TRUE(has("new"));
}

TEST_F(GcTest, AContainerKeepsItsLayersAndBlobs) {
  auto image = value_of(write_image(*store_, "localhost/a:1", {{{"a", "content"}}}));
  ContainerRecord container;
  container.id = std::string(64, 'c');
  container.name = "c";
  container.image_manifest = image.manifest;
  container.image_config = image.config;
  container.chain = image.chain;
  container.layers = diff_ids_of(image);
  ASSERT_DONE(store_->add_container(container));
  ASSERT_DONE(store_->get_tree(container.layers));
  ASSERT_DONE(store_->remove_image("localhost/a:1"));
  value_of(store_->gc());
  EXPECT_EQ(read("content"), "content");
  EXPECT_TRUE(std::filesystem::exists(path("trees/" + image.chain.hex())));
  EXPECT_TRUE(store_->get_blob(image.config));
  EXPECT_EQ(problems_of(*store_), "");
  ASSERT_DONE(store_->remove_container(container.id));
  value_of(store_->gc());
  EXPECT_TRUE(files_of(root_).empty());
}

TEST_F(GcTest, AUsedTreeKeepsItsObjects) {
  auto image =
      value_of(write_image(*store_, "localhost/a:1", {{{"a", "hidden by the next"}}, {{"a", "seen"}}}));
  auto tree = value_of(store_->get_tree(diff_ids_of(image)));
  ASSERT_DONE(store_->remove_image("localhost/a:1"));
  auto report = value_of(store_->gc());
  EXPECT_EQ(report.trees_removed, 0U);
  EXPECT_EQ(report.layers_removed, 2U);
  EXPECT_TRUE(value_of(tree->find_entry(kRootIno, "a")).has_value());
  EXPECT_EQ(read("seen"), "seen");
  EXPECT_FALSE(has("hidden by the next"));
  tree.reset();
  value_of(store_->gc());
  EXPECT_TRUE(files_of(root_).empty());
}

TEST_F(GcTest, ABlobStaysReadableWhileItIsHeld) {
  std::string large = random_bytes(100'000, 3);
  value_of(write_image(*store_, "localhost/a:1", {{{"a", "small"}, {"b", large}}}));
  auto small_blob = value_of(store_->objects().open(sha256("small")));
  auto large_blob = value_of(store_->objects().open(sha256(large)));
  ASSERT_DONE(store_->remove_image("localhost/a:1"));
  value_of(store_->gc());
  EXPECT_EQ(read_blob(small_blob), "small");
  EXPECT_EQ(read_blob(large_blob), large);
}

TEST_F(GcTest, AMostlyDeadPackIsWrittenAnew) {
  std::string kept = random_bytes(5000, 1);
  std::vector<TestFile> files;
  for (std::uint64_t i = 0; i < 20; ++i)
    files.push_back({"f" + std::to_string(i), random_bytes(5000, 100 + i)});
  files.push_back({"kept", kept});
  value_of(write_image(*store_, "localhost/a:1", {files}));
  value_of(write_image(*store_, "localhost/b:1", {{{"kept", kept}}}));
  auto held = value_of(store_->objects().open(sha256(kept)));
  ASSERT_DONE(store_->remove_image("localhost/a:1"));
  auto report = value_of(store_->gc());
  EXPECT_EQ(report.objects_removed, 20U);
  std::uintmax_t pack_bytes = 0;
  for (const auto& file : files_of(root_))
    if (file.starts_with("packs/")) pack_bytes += std::filesystem::file_size(path(file));
  EXPECT_EQ(pack_bytes, kPackHeadSize + kept.size());
  EXPECT_EQ(read(kept), kept);
  EXPECT_EQ(read_blob(held), kept);
  EXPECT_EQ(problems_of(*store_), "");
}

TEST_F(GcTest, AnotherProcesssDescriptorsOfRemovedPacksAreLetGo) {
  std::vector<TestFile> files{{"kept", "kept content"}};
  for (std::uint64_t i = 0; i < 5; ++i) files.push_back({"f" + std::to_string(i), random_bytes(3000, i)});
  value_of(write_image(*store_, "localhost/a:1", {files}));
  value_of(write_image(*store_, "localhost/b:1", {{{"kept", "kept content"}}}));
  auto server = value_of(Store::open(root_, StoreAccess::kRead));
  EXPECT_EQ(read_blob(value_of(server->objects().open(sha256("kept content")))), "kept content");
  ASSERT_DONE(store_->remove_image("localhost/a:1"));
  value_of(store_->gc());
  EXPECT_EQ(read_blob(value_of(server->objects().open(sha256("kept content")))), "kept content");
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    std::string target = std::filesystem::read_symlink(entry.path(), gone).string();
    EXPECT_FALSE(target.starts_with(root_) && target.ends_with("(deleted)")) << target;
  }
}

TEST_F(GcTest, WaitsForNobodyUnlessItIsTold) {
  {
    auto lease = value_of(store_->lease());
    EXPECT_EQ(store_->gc(GcWait::kNo).error().code, EBUSY);
    auto writer = value_of(store_->objects().make_writer());
  }
  auto writer = value_of(store_->make_layer_writer());
  EXPECT_EQ(store_->gc().error().code, EBUSY);
  writer.reset();
  EXPECT_TRUE(store_->gc());
}

TEST_F(GcTest, BytesWithoutANameAreRemoved) {
  auto image = value_of(write_image(*store_, "localhost/a:1", {{{"a", "kept"}}}));
  auto before = files_of(root_);
  auto leave = [&](const std::string& name) {
    std::filesystem::create_directories(std::filesystem::path(path(name)).parent_path());
    auto fd = value_of(open_file(path(name), O_WRONLY | O_CREAT, 0600));
    value_of(write_full(fd.get(), as_bytes("left over")));
  };
  leave("tmp/anything");
  leave("tmp/objects-1-2/3");
  leave("packs/00000000000000ff");
  leave("objects/ab/" + std::string("ab") + std::string(62, '0'));
  leave("trees/" + std::string(64, '1'));
  leave("layers/" + std::string(64, '2') + "/records");
  leave("blobs/sha256/" + std::string(64, '3'));
  leave("containers/" + std::string(64, '4') + "/delta.lmdb");
  leave("format.AbCdEf");
  value_of(store_->gc());
  EXPECT_EQ(files_of(root_), before);
  EXPECT_FALSE(std::filesystem::exists(path("containers/" + std::string(64, '4'))));
  EXPECT_EQ(problems_of(*store_), "");
}

TEST_F(GcTest, ADamagedNeededLayerStopsItBeforeAnyObjectGoes) {
  auto image = value_of(write_image(*store_, "localhost/a:1", {{{"a", "content"}}}));
  std::filesystem::resize_file(path("layers/" + image.layers[0].diff_id.hex() + "/records"), 30);
  EXPECT_EQ(store_->gc().error().kind, ErrorKind::kCorrupt);
  EXPECT_TRUE(has("content"));
}

}  // namespace
}  // namespace layerfs::store
