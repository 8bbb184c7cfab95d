// SPDX-License-Identifier: Apache-2.0
// Import of OCI layouts: what is found, chosen, named and verified.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include "tests/image/import_support.h"

namespace layerfs::image {
namespace {

using testing::HasSubstr;
using Json = nlohmann::json;

class ImportLayout : public ImportTest {
 protected:
  std::string write_image(const std::vector<std::string>& tars, Compression compression = Compression::kGzip,
                          const std::string& tag = "latest") {
    LayoutBuilder layout;
    Json image = layout.add_image(tars, compression);
    return write_layout(layout.finish({LayoutBuilder::tagged(image, tag)}));
  }
};

TEST_F(ImportLayout, LayersOfEveryCompressionGiveTheSameTree) {
  std::string upper = TarBuilder().file("etc/.wh.motd", "").file("etc/issue", "new").finish();
  for (Compression compression : {Compression::kNone, Compression::kGzip, Compression::kZstd}) {
    auto image = import("oci:" + write_image({small_tar(), upper}, compression));
    ASSERT_TRUE(image) << image.error().message();
    EXPECT_EQ(image->reference, "localhost/layout:latest");
    ASSERT_EQ(image->layers.size(), 2U);
    EXPECT_EQ(image->layers[0].diff_id, sha256(small_tar()));
    EXPECT_EQ(content(*image, "etc/motd"), "(missing)");
    EXPECT_EQ(content(*image, "etc/issue"), "new");
    EXPECT_EQ(content(*image, "bin"), "usr/bin");
    EXPECT_EQ(image->chain, store::chain_id({image->layers[0].diff_id, image->layers[1].diff_id}));
    EXPECT_EQ(sha256(*store_->get_blob(image->manifest)), image->manifest);
    EXPECT_EQ(sha256(*store_->get_blob(image->config)), image->config);
  }
  expect_sound();
}

TEST_F(ImportLayout, TheSourceNamesTheImage) {
  EXPECT_EQ(import("oci:" + write_image({small_tar()}, Compression::kGzip, "v1"))->reference,
            "localhost/layout:v1");
  EXPECT_EQ(import("oci:" + write_image({small_tar()}, Compression::kGzip, "quay.io/a/b:c"))->reference,
            "quay.io/a/b:c");
  LayoutBuilder layout;
  Json image = layout.add_image({small_tar()});
  image["annotations"] = {{kContainerdNameAnnotation, "docker.io/library/x:1"}, {kRefNameAnnotation, "1"}};
  std::string path = write_layout(layout.finish({image}));
  EXPECT_EQ(import("oci:" + path)->reference, "docker.io/library/x:1");
  EXPECT_EQ(import("oci:" + path + ":1")->reference, "docker.io/library/x:1");
  EXPECT_EQ(import("oci:" + path + ":x:1")->reference, "docker.io/library/x:1");
  options_.name = "mine";
  EXPECT_EQ(import("oci:" + path)->reference, "localhost/mine:latest");
}

TEST_F(ImportLayout, ATagIsNeededWhereThereAreSeveralImages) {
  LayoutBuilder layout;
  Json one = LayoutBuilder::tagged(layout.add_image({small_tar("one")}), "one");
  Json two = LayoutBuilder::tagged(layout.add_image({small_tar("two")}), "two");
  std::string path = write_layout(layout.finish({one, two}));
  EXPECT_THAT(import_error("oci:" + path), HasSubstr("several images in it, name one of: one, two"));
  EXPECT_THAT(import_error("oci:" + path + ":three"),
              HasSubstr("tag 'three': not in the index; there are: one, two"));
  auto image = import("oci:" + path + ":two");
  ASSERT_TRUE(image) << image.error().message();
  EXPECT_EQ(content(*image, "etc/motd"), "two");
}

TEST_F(ImportLayout, TwoTagsOfOneManifestAreOneImage) {
  LayoutBuilder layout;
  Json image = layout.add_image({small_tar()});
  std::string path =
      write_layout(layout.finish({LayoutBuilder::tagged(image, "1"), LayoutBuilder::tagged(image, "1.0")}));
  EXPECT_TRUE(import("oci:" + path));
}

TEST_F(ImportLayout, ThePlatformChoosesAlsoThroughNestedIndexes) {
  LayoutBuilder layout;
  auto built = [&](const std::string& architecture) {
    return LayoutBuilder::for_platform(
        layout.add_image({small_tar(architecture)}, Compression::kGzip, {"linux", architecture, ""}), "linux",
        architecture);
  };
  Json attestation = LayoutBuilder::for_platform(layout.add_image({small_tar("no")}), "unknown", "unknown");
  Json inner = layout.add_index({built("s390x"), built(host_platform().architecture), attestation});
  std::string path = write_layout(layout.finish({LayoutBuilder::tagged(layout.add_index({inner}), "multi")}));
  auto image = import("oci:" + path);
  ASSERT_TRUE(image) << image.error().message();
  EXPECT_EQ(content(*image, "etc/motd"), host_platform().architecture);
  options_.platform_architecture = "s390x";
  image = import("oci:" + path);
  ASSERT_TRUE(image) << image.error().message();
  EXPECT_EQ(content(*image, "etc/motd"), "s390x");
  options_.platform_architecture = "riscv64";
  options_.name = "other";
  auto missing = import("oci:" + path);
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message(),
              HasSubstr("platform 'linux/riscv64': the image is not there for it; there are: "
                        "linux/s390x"));
}

TEST_F(ImportLayout, ASingleImageOfAnotherPlatformIsRefusedOnlyIfAskedFor) {
  LayoutBuilder layout;
  Json image = layout.add_image({small_tar()}, Compression::kGzip, {"linux", "z80", ""});
  std::string path = write_layout(layout.finish({image}));
  EXPECT_TRUE(import("oci:" + path));
  options_.platform_architecture = host_platform().architecture;
  auto refused = import("oci:" + path);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("the image is for linux/z80, not for linux/"));
}

TEST_F(ImportLayout, AnIndexThatHoldsItselfIsRefused) {
  // A real cycle would need a digest of itself; a chain that is too long stands for it.
  LayoutBuilder layout;
  Json descriptor = layout.add_image({small_tar()});
  for (int i = 0; i < 8; ++i) descriptor = layout.add_index({descriptor});
  EXPECT_THAT(import_error("oci:" + write_layout(layout.finish({descriptor}))),
              HasSubstr("nested too deeply"));
}

TEST_F(ImportLayout, EveryDocumentAndBlobIsVerified) {
  LayoutBuilder layout;
  Json image = layout.add_image({small_tar(), small_tar("two")});
  FileMap files = layout.finish({image});
  for (const auto& [path, bytes] : files) {
    if (!path.starts_with("blobs/")) continue;
    // The last byte: of JSON its closing brace, of gzip its length.
    FileMap changed = files;
    changed[path].back() = static_cast<char>(changed[path].back() ^ 1);
    EXPECT_THAT(import_error("oci:" + write_layout(changed)), HasSubstr("its digest is")) << path;
    changed[path] = bytes + " ";
    EXPECT_THAT(import_error("oci:" + write_layout(changed)), HasSubstr("bytes instead of")) << path;
    changed[path] = bytes.substr(0, bytes.size() / 2);
    EXPECT_THAT(import_error("oci:" + write_layout(changed)), HasSubstr("bytes instead of")) << path;
    changed.erase(path);
    EXPECT_THAT(import_error("oci:" + write_layout(changed)), HasSubstr("no such file or directory")) << path;
    // The other layer may have been published before this one failed; it is nobody's, so gc takes it.
    ASSERT_TRUE(store_->gc());
    EXPECT_FALSE(*store_->has_layer(sha256(small_tar())) || *store_->has_layer(sha256(small_tar("two"))));
  }
  EXPECT_TRUE(import("oci:" + write_layout(files)));
  expect_sound();
}

TEST_F(ImportLayout, TheDiffIdIsVerified) {
  for (Compression compression : {Compression::kNone, Compression::kGzip, Compression::kZstd}) {
    LayoutBuilder layout;
    Json layer = layout.add_layer(small_tar("what is there"), compression);
    Json image = layout.add_manifest(LayoutBuilder::config_of({small_tar("what is promised")}), {layer});
    EXPECT_THAT(import_error("oci:" + write_layout(layout.finish({image}))), HasSubstr("verify diffID"));
  }
  EXPECT_FALSE(*store_->has_layer(sha256(small_tar("what is there"))));
  EXPECT_FALSE(*store_->has_layer(sha256(small_tar("what is promised"))));
}

TEST_F(ImportLayout, CountsOfLayersAndDiffIdsMustAgreeAndHistoryNeedNot) {
  LayoutBuilder layout;
  Json layer = layout.add_layer(small_tar(), Compression::kGzip);
  Json more = layout.add_manifest(LayoutBuilder::config_of({small_tar(), small_tar()}), {layer});
  EXPECT_THAT(import_error("oci:" + write_layout(layout.finish({more}))),
              HasSubstr("2 diffIDs for 1 layers"));
  Json config = LayoutBuilder::config_of({small_tar()});
  options_.name = "x";
  for (const Json& history :
       {Json::array(), Json(nullptr), Json::array({{{"created_by", "a"}}, {{"created_by", "b"}}}),
        Json::array({{{"empty_layer", true}}}), Json("no list")}) {
    config["history"] = history;
    LayoutBuilder odd;
    Json odd_layer = odd.add_layer(small_tar(), Compression::kGzip);
    Json image = odd.add_manifest(config, {odd_layer});
    auto imported = import("oci:" + write_layout(odd.finish({image})));
    EXPECT_TRUE(imported) << history << imported.error().message();
  }
}

TEST_F(ImportLayout, ALayerCompressedAnewUnderTheOldBlobsDigestIsRefused) {
  // The same tar, so the same diffID; the same length, by the zeros that gzip allows behind its end.
  std::string tar = small_tar();
  std::string promised = compress(tar, Compression::kGzip);
  std::string other = compress(tar, Compression::kNone);
  z_stream stream{};
  ASSERT_EQ(deflateInit2(&stream, 1, Z_DEFLATED, MAX_WBITS + 16, 8, Z_FIXED), Z_OK);
  std::string again(tar.size() + 1000, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(other.data());
  stream.avail_in = static_cast<uInt>(other.size());
  stream.next_out = reinterpret_cast<Bytef*>(again.data());
  stream.avail_out = static_cast<uInt>(again.size());
  ASSERT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  again.resize(stream.total_out);
  deflateEnd(&stream);
  std::size_t length = std::max(promised.size(), again.size());
  promised.resize(length, '\0');
  again.resize(length, '\0');
  ASSERT_NE(promised, again);
  LayoutBuilder layout;
  Json layer = layout.add_layer(tar, Compression::kGzip);
  layer["digest"] = sha256(promised).str();
  layer["size"] = length;
  Json image = layout.add_manifest(LayoutBuilder::config_of({tar}), {layer});
  FileMap files = layout.finish({image});
  files["blobs/sha256/" + sha256(promised).hex()] = again;
  EXPECT_THAT(import_error("oci:" + write_layout(files)),
              HasSubstr("verify blob '" + sha256(promised).str()));
  files["blobs/sha256/" + sha256(promised).hex()] = promised;
  EXPECT_TRUE(import("oci:" + write_layout(files)));
}

TEST_F(ImportLayout, ANameThatStandsForAnotherImageIsNotTaken) {
  auto layout_of = [&](const std::string& content, const std::string& name) {
    LayoutBuilder layout;
    Json layer = layout.add_layer(small_tar(content), Compression::kGzip);
    Json image = layout.add_manifest(LayoutBuilder::config_of({small_tar(content)}), {layer});
    if (!name.empty()) image["annotations"] = {{std::string(kRefNameAnnotation), name}};
    return layout.finish({image});
  };
  options_.name = "good";
  auto good = import("oci:" + write_layout(layout_of("good", ""), "good"));
  ASSERT_TRUE(good) << good.error().message();
  options_.name.clear();
  for (const std::string& name :
       {"debian@" + good->manifest.str(), good->config.str(), good->manifest.str(),
        good->config.hex() + ":latest", "docker.io/library/sha256:" + good->config.hex()}) {
    auto taken = import("oci:" + write_layout(layout_of("evil", name), "evil"));
    EXPECT_FALSE(taken) << name;
    options_.name = name;
    EXPECT_FALSE(import("oci:" + write_layout(layout_of("evil", ""), "evil"))) << name;
    options_.name.clear();
  }
  EXPECT_EQ(store_->list_images()->size(), 1U);
  options_.name = "own@" + good->manifest.str();
  auto own = import("oci:" + write_layout(layout_of("good", ""), "good"));
  ASSERT_TRUE(own) << own.error().message();
  EXPECT_EQ(store::get_image_by_name(*store_, "own@" + good->manifest.str())->config, good->config);
  EXPECT_EQ(store::get_image_by_name(*store_, "good:other@" + good->manifest.str())->config, good->config);
  EXPECT_FALSE(store::get_image_by_name(*store_, "good@" + sha256("other").str()));
}

TEST_F(ImportLayout, ABlobThatIsNoFileIsRefusedWithoutWaiting) {
  LayoutBuilder layout;
  Json image = layout.add_image({small_tar()});
  std::string path = write_layout(layout.finish({image}));
  std::string config = Json::parse(
      layout.files["blobs/sha256/" + image["digest"].get<std::string>().substr(7)])["config"]["digest"];
  std::string blob = path + "/blobs/sha256/" + config.substr(7);
  ASSERT_EQ(::unlink(blob.c_str()), 0);
  ASSERT_EQ(::mkfifo(blob.c_str(), 0644), 0);
  EXPECT_THAT(import_error("oci:" + path), HasSubstr("not a regular file"));
}

TEST_F(ImportLayout, ABlobLinkedOutOfTheLayoutIsNotFound) {
  LayoutBuilder layout;
  Json image = layout.add_image({small_tar()});
  std::string path = write_layout(layout.finish({image}));
  std::string blob = "/blobs/sha256/" + image["digest"].get<std::string>().substr(7);
  ASSERT_EQ(::rename((path + blob).c_str(), (dir_ / "outside").c_str()), 0);
  ASSERT_EQ(::symlink((dir_ / "outside").c_str(), (path + blob).c_str()), 0);
  EXPECT_THAT(import_error("oci:" + path), HasSubstr("no such file or directory"));
}

TEST_F(ImportLayout, WhatIsNoLayoutIsSaidSo) {
  EXPECT_THAT(import_error("oci:" + (dir_ / "nowhere")), HasSubstr("no such file or directory"));
  ASSERT_TRUE(make_dir(dir_ / "empty", 0755));
  EXPECT_THAT(import_error("oci:" + (dir_ / "empty")), HasSubstr("no oci-layout and index.json in it"));
  LayoutBuilder layout;
  EXPECT_THAT(import_error("oci:" + write_layout(layout.finish({}))), HasSubstr("no image in it"));
  EXPECT_THAT(import_error("zip:x"), HasSubstr("source 'zip:x': not one of docker://REF, oci:DIR[:TAG]"));
  EXPECT_THAT(import_error("oci:"), HasSubstr("no path in it"));
}

TEST_F(ImportLayout, APathMayHaveColons) {
  LayoutBuilder layout;
  Json image = LayoutBuilder::tagged(layout.add_image({small_tar()}), "v1");
  std::string path = write_layout(layout.finish({image}), "a:b");
  EXPECT_TRUE(import("oci:" + path + ":v1"));
  EXPECT_TRUE(import("oci:" + path));
}

TEST_F(ImportLayout, OciArchivesPlainAndCompressed) {
  LayoutBuilder layout;
  std::string tar = tar_of(layout.finish({LayoutBuilder::tagged(layout.add_image({small_tar()}), "latest")}));
  for (Compression compression : {Compression::kNone, Compression::kGzip, Compression::kZstd}) {
    write_text(dir_ / "My Image.tar", compression == Compression::kNone ? tar : compress(tar, compression));
    auto image = import("oci-archive:" + (dir_ / "My Image.tar"));
    ASSERT_TRUE(image) << image.error().message();
    EXPECT_EQ(image->reference, "localhost/my-image:latest");
    EXPECT_EQ(content(*image, "etc/motd"), "hello");
  }
}

TEST_F(ImportLayout, AnArchiveCutAnywhereIsRefused) {
  LayoutBuilder layout;
  std::string tar = tar_of(layout.finish({layout.add_image({small_tar()})}));
  for (std::size_t size = 0; size + 1024 < tar.size(); size += 171) {
    write_text(dir_ / "cut.tar", std::string_view(tar).substr(0, size));
    EXPECT_THAT(import_error("oci-archive:" + (dir_ / "cut.tar")), HasSubstr("truncated")) << size;
  }
}

}  // namespace
}  // namespace layerfs::image
