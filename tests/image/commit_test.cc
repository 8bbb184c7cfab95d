// SPDX-License-Identifier: Apache-2.0
#include "fs/image/commit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/image/commit_scene.h"
#include "tests/image/tar_listing.h"

namespace layerfs::image {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Json = nlohmann::json;

class Commit : public CommitScene {
 protected:
  void SetUp() override {
    CommitScene::SetUp();
    start({TarBuilder().dir("etc/").file("etc/a", "a\n").file("etc/b", "b\n").finish(), small_tar()});
  }
  Json config(const store::ImageRecord& image) { return Json::parse(store_->get_blob(image.config).value()); }
};

TEST_F(Commit, IsBasePlusOneLayer) {
  make_file(at("etc"), "new", "new\n");
  ASSERT_TRUE(union_->unlink(at("etc"), "a", {}));
  auto image = committed("new");
  EXPECT_EQ(image.reference, "localhost/new:latest");
  ASSERT_EQ(image.layers.size(), 3U);
  for (std::size_t i = 0; i < 2; ++i) EXPECT_EQ(image.layers[i].diff_id, container_.layers[i]);
  EXPECT_THAT(names_of(list_tar(framed_tar(image.layers[2].diff_id))),
              ElementsAre("etc/", "etc/.wh.a", "etc/new"));
  EXPECT_EQ(sha256(framed_tar(image.layers[2].diff_id)), image.layers[2].diff_id);
  EXPECT_EQ(content(image, "etc/new"), "new\n");
  EXPECT_EQ(content(image, "etc/b"), "b\n");
  EXPECT_FALSE(find(image, "etc/a"));
  EXPECT_EQ(store_->find_image("localhost/new:latest").value(), image);
  expect_sound();
}

TEST_F(Commit, ManifestNamesConfigAndLayers) {
  make_file(tree::kRootIno, "new", "new\n");
  auto image = committed("new");
  auto manifest = parse_manifest(store_->get_blob(image.manifest).value());
  ASSERT_TRUE(manifest) << manifest.error().message();
  EXPECT_EQ(manifest->config.digest, image.config);
  ASSERT_EQ(manifest->layers.size(), 3U);
  EXPECT_EQ(manifest->layers[0].media_type, media::kOciLayerGzip);
  EXPECT_EQ(manifest->layers[2].media_type, media::kOciLayerTar);
  EXPECT_EQ(manifest->layers[2].digest, image.layers[2].diff_id);
  EXPECT_EQ(manifest->layers[2].size, framed_tar(image.layers[2].diff_id).size());
  EXPECT_EQ(image.chain,
            store::chain_id({image.layers[0].diff_id, image.layers[1].diff_id, image.layers[2].diff_id}));
}

TEST_F(Commit, ConfigHasHistoryChangesAndAuthor) {
  make_file(tree::kRootIno, "new", "new\n");
  CommitOptions options;
  options.author = "An Author";
  options.message = "why";
  options.changes = {"USER 5", "ENV A=1"};
  Json json = config(committed("new", options));
  EXPECT_EQ(json["history"].size(), 3U);
  EXPECT_EQ(json["history"][2]["comment"], "why");
  EXPECT_EQ(json["history"][2]["author"], "An Author");
  EXPECT_EQ(json["rootfs"]["diff_ids"].size(), 3U);
  EXPECT_EQ(json["config"]["User"], "5");
  EXPECT_EQ(json["created"], "2025-12-01T00:00:00Z");
}

TEST_F(Commit, TwiceGivesTheSameImage) {
  make_file(tree::kRootIno, "new", "new\n");
  auto one = committed("one");
  auto two = committed("two");
  EXPECT_EQ(one.config, two.config);
  EXPECT_EQ(one.manifest, two.manifest);
  EXPECT_EQ(one.chain, two.chain);
}

TEST_F(Commit, OfACommitGoesOnTop) {
  make_file(tree::kRootIno, "one", "1");
  auto one = committed("one");
  start_over(one);
  make_file(tree::kRootIno, "two", "2");
  auto two = committed("two");
  EXPECT_EQ(two.layers.size(), 4U);
  EXPECT_EQ(content(two, "one"), "1");
  EXPECT_EQ(content(two, "two"), "2");
  EXPECT_EQ(config(two)["history"].size(), 4U);
}

TEST_F(Commit, UnchangedInodesKeepTheirNumbers) {
  Ino b = at("etc/b");
  make_file(tree::kRootIno, "new", "new\n");
  auto entry = find(committed("new"), "etc/b");
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->ino, b);
}

TEST_F(Commit, NothingChangedIsAnEmptyLayer) {
  auto image = committed("same");
  ASSERT_EQ(image.layers.size(), 3U);
  EXPECT_EQ(framed_tar(image.layers[2].diff_id), std::string(1024, '\0'));
}

TEST_F(Commit, BadRequestsWriteNothing) {
  make_file(tree::kRootIno, "new", "new\n");
  auto layers = list_dir(dir_ / "store/layers").value().size();
  CommitOptions options;
  options.changes = {"RUN x"};
  EXPECT_THAT(commit("new", options).error().message(), HasSubstr("RUN"));
  EXPECT_FALSE(commit("Not A Reference"));
  EXPECT_EQ(list_dir(dir_ / "store/layers").value().size(), layers);
  EXPECT_EQ(store_->list_images().value().size(), 1U);
}

TEST_F(Commit, OfWhatChangedMeanwhileLeavesNoImage) {
  make_file(tree::kRootIno, "new", "new\n");
  CommitOptions options;
  options.check_unchanged = [] { return system_error(ECONNRESET, "keep the mount frozen"); };
  EXPECT_EQ(commit("new", options).error().code, ECONNRESET);
  EXPECT_EQ(store_->list_images().value().size(), 1U);
}

TEST_F(Commit, RefusedNameLeavesNoImage) {
  make_file(at("etc"), ".wh.x", "");
  auto image = commit("new");
  ASSERT_FALSE(image);
  EXPECT_THAT(image.error().message(), HasSubstr("etc/.wh.x"));
  EXPECT_EQ(store_->list_images().value().size(), 1U);
  ASSERT_TRUE(union_->rename(at("etc"), ".wh.x", at("etc"), "x", 0, {}));
  EXPECT_TRUE(commit("new"));
  expect_sound();
}

TEST_F(Commit, WorksWithoutTheBasesManifest) {
  make_file(tree::kRootIno, "new", "new\n");
  container_.image_manifest = sha256("a manifest that the store does not have");
  auto image = committed("new");
  ASSERT_EQ(image.layers.size(), 3U);
  EXPECT_EQ(image.layers[0].blob, image.layers[0].diff_id);
  EXPECT_EQ(image.layers[0].media_type, media::kOciLayerTar);
}

}  // namespace
}  // namespace layerfs::image
