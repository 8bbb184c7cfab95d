// SPDX-License-Identifier: Apache-2.0
#include "fs/image/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace layerfs::image {
namespace {

using testing::HasSubstr;

const std::string kDigest = "sha256:" + std::string(64, 'a');

std::string descriptor(const std::string& type, const std::string& more = "") {
  return R"({"mediaType":")" + type + R"(","digest":")" + kDigest + R"(","size":7)" + more + "}";
}

std::string manifest(const std::string& config_type, const std::string& layer_type,
                     const std::string& more = "") {
  return R"({"schemaVersion":2,)" + more + R"("config":)" + descriptor(config_type) + R"(,"layers":[)" +
         descriptor(layer_type) + "]}";
}

TEST(Manifest, OciAndDockerAreRead) {
  struct Row {
    std::string_view media_type, config, layer;
  };
  for (const Row& row : {Row{media::kOciManifest, media::kOciConfig, media::kOciLayerGzip},
                         Row{media::kOciManifest, media::kOciConfig, media::kOciLayerZstd},
                         Row{media::kOciManifest, media::kOciConfig, media::kOciLayerTar},
                         Row{media::kDockerManifest, media::kDockerConfig, media::kDockerLayerGzip},
                         Row{media::kDockerManifest, media::kDockerConfig, media::kDockerLayerTar}}) {
    auto parsed = parse_manifest(manifest(std::string(row.config), std::string(row.layer),
                                          R"("mediaType":")" + std::string(row.media_type) + "\","));
    ASSERT_TRUE(parsed) << parsed.error().message();
    EXPECT_EQ(parsed->media_type, row.media_type);
    EXPECT_EQ(parsed->config.digest.str(), kDigest);
    ASSERT_EQ(parsed->layers.size(), 1U);
    EXPECT_EQ(parsed->layers[0].size, 7U);
    EXPECT_EQ(parsed->layers[0].media_type, row.layer);
  }
}

TEST(Manifest, TheMediaTypeMayBeMissingInOci) {
  auto parsed = parse_manifest(manifest(std::string(media::kOciConfig), std::string(media::kOciLayerGzip)));
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->media_type, media::kOciManifest);
}

TEST(Manifest, WhatIsNoImageIsRefusedWithItsReason) {
  auto reason = [](const std::string& json) {
    auto parsed = parse_manifest(json);
    return parsed ? std::string("accepted") : parsed.error().message();
  };
  const std::string oci(media::kOciConfig);
  const std::string gzip(media::kOciLayerGzip);
  EXPECT_THAT(reason(""), HasSubstr("not JSON"));
  EXPECT_THAT(reason("[]"), HasSubstr("not a JSON object"));
  EXPECT_THAT(reason("{}"), HasSubstr("schemaVersion"));
  EXPECT_THAT(reason(R"({"schemaVersion":1})"), HasSubstr("only 2 is known"));
  EXPECT_THAT(reason(R"({"schemaVersion":2})"), HasSubstr("without 'config'"));
  EXPECT_THAT(reason(manifest("application/vnd.cncf.helm.config.v1+json", gzip)), HasSubstr("an artifact"));
  EXPECT_THAT(reason(manifest(oci, "text/plain")), HasSubstr("layer type 'text/plain'"));
  EXPECT_THAT(reason(manifest(oci, gzip, R"("manifests":[],)")), HasSubstr("both a manifest and an index"));
  EXPECT_THAT(reason(R"({"schemaVersion":2,"config":7})"), HasSubstr("'config' is not a descriptor"));
  auto with_config = [&](const std::string& config) {
    return reason(R"({"schemaVersion":2,"config":)" + config + "}");
  };
  EXPECT_THAT(with_config(R"({"size":1})"), HasSubstr("no digest"));
  EXPECT_THAT(with_config(R"({"digest":"sha256:12","size":1})"), HasSubstr("digest"));
  EXPECT_THAT(with_config(R"({"digest":")" + kDigest + R"("})"), HasSubstr("no valid size"));
  EXPECT_THAT(with_config(R"({"digest":")" + kDigest + R"(","size":-1})"), HasSubstr("no valid size"));
  EXPECT_THAT(with_config(R"({"digest":")" + kDigest + R"(","size":1.5})"), HasSubstr("no valid size"));
  EXPECT_THAT(with_config(R"({"digest":")" + kDigest + R"(","size":1,"mediaType":3})"),
              HasSubstr("not a string"));
}

TEST(Manifest, DeeplyNestedJsonIsNoCrash) {
  std::string deep =
      R"({"schemaVersion":2,"config":)" + std::string(1'000'000, '[') + std::string(1'000'000, ']') + "}";
  EXPECT_THAT(parse_manifest(deep).error().message(), HasSubstr("nested more than 64 deep"));
  std::string wide = R"({"schemaVersion":2,"config":[)";
  for (int i = 0; i < 100'000; ++i) wide += "[],";
  EXPECT_THAT(parse_manifest(wide + "[]]}").error().message(), HasSubstr("'config' is not a descriptor"));
}

TEST(Manifest, IsPrintedCanonically) {
  auto parsed = parse_manifest(manifest(std::string(media::kOciConfig), std::string(media::kOciLayerGzip)));
  ASSERT_TRUE(parsed);
  std::string text = format_manifest(*parsed);
  auto again = parse_manifest(text);
  ASSERT_TRUE(again);
  EXPECT_EQ(*again, *parsed);
  EXPECT_EQ(format_manifest(*again), text);
}

TEST(Index, AnnotationsAndPlatformsAreRead) {
  auto parsed = parse_index(
      R"({"schemaVersion":2,"manifests":[)" +
      descriptor(
          std::string(media::kOciManifest),
          R"(,"annotations":{"org.opencontainers.image.ref.name":"v1"},"platform":{"os":"linux","architecture":"arm","variant":"v7"})") +
      "]}");
  ASSERT_TRUE(parsed) << parsed.error().message();
  ASSERT_EQ(parsed->manifests.size(), 1U);
  EXPECT_EQ(parsed->manifests[0].annotations.at(std::string(kRefNameAnnotation)), "v1");
  EXPECT_EQ(parsed->manifests[0].platform, (Platform{"linux", "arm", "v7"}));
  auto again = parse_index(format_index(*parsed));
  ASSERT_TRUE(again);
  EXPECT_EQ(*again, *parsed);
  EXPECT_FALSE(parse_index(R"({"schemaVersion":2})"));
}

Descriptor for_platform(const std::string& os, const std::string& architecture,
                        const std::string& variant = "") {
  Descriptor descriptor;
  descriptor.platform = Platform{os, architecture, variant};
  return descriptor;
}

TEST(ChoosePlatform, ExactVariantThenAnyThenTheOnlyOneWithoutPlatform) {
  std::vector<Descriptor> list = {for_platform("linux", "arm", "v6"),   for_platform("linux", "arm", "v7"),
                                  for_platform("linux", "amd64", "v3"), for_platform("linux", "amd64"),
                                  for_platform("linux", "arm64", "v8"), for_platform("unknown", "unknown")};
  EXPECT_EQ(choose_platform(list, {"linux", "arm", "v7"}), &list[1]);
  EXPECT_EQ(choose_platform(list, {"linux", "arm", ""}), &list[1]);
  EXPECT_EQ(choose_platform(list, {"linux", "amd64", ""}), &list[3]);
  EXPECT_EQ(choose_platform(list, {"linux", "amd64", "v3"}), &list[2]);
  EXPECT_EQ(choose_platform(list, {"linux", "arm64", ""}), &list[4]);
  EXPECT_EQ(choose_platform(list, {"linux", "arm", "v5"}), nullptr);
  EXPECT_EQ(choose_platform(list, {"windows", "amd64", ""}), nullptr);
  list.emplace_back();
  EXPECT_EQ(choose_platform(list, {"linux", "s390x", ""}), &list[6]);
  list.emplace_back();
  EXPECT_EQ(choose_platform(list, {"linux", "s390x", ""}), nullptr) << "two without a platform: no choice";
}

TEST(Platform, TextAndBack) {
  EXPECT_EQ(*parse_platform("linux/arm64/v8"), (Platform{"linux", "arm64", "v8"}));
  EXPECT_EQ(*parse_platform("linux/amd64"), (Platform{"linux", "amd64", ""}));
  for (const char* text : {"", "linux", "linux/", "/amd64", "a/b/c/d", "linux/arm/"})
    EXPECT_FALSE(parse_platform(text)) << text;
  EXPECT_EQ(platform_text({"linux", "arm", "v7"}), "linux/arm/v7");
  EXPECT_EQ(host_platform().os, "linux");
  EXPECT_FALSE(host_platform().architecture.empty());
}

TEST(ImageConfig, DiffIdsAreReadAndHistoryIsOfNoAccount) {
  auto config = parse_image_config(
      R"({"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[")" + kDigest +
      R"("]},"history":[{"created_by":"a"},{"empty_layer":true},{"empty_layer":false}]})");
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->diff_ids.size(), 1U);
  EXPECT_EQ(config->platform, (Platform{"linux", "amd64", ""}));
  for (const char* history : {"null", "[7]", "7", R"([{"empty_layer":"yes"}])", R"([{},{},{}])"})
    EXPECT_TRUE(parse_image_config(R"({"rootfs":{"type":"layers","diff_ids":[]},"history":)" +
                                   std::string(history) + "}"))
        << history;
  auto odd = parse_image_config(R"({"os":7,"variant":[],"rootfs":{"type":"layers","diff_ids":[]}})");
  ASSERT_TRUE(odd);
  EXPECT_EQ(odd->platform, Platform{});
}

TEST(ImageConfig, BadOnesAreRefused) {
  for (const char* json :
       {"{}", R"({"rootfs":[]})", R"({"rootfs":{"type":"tar","diff_ids":[]}})",
        R"({"rootfs":{"type":"layers","diff_ids":{}}})", R"({"rootfs":{"type":"layers","diff_ids":[7]}})",
        R"({"rootfs":{"type":"layers","diff_ids":["md5:00"]}})"})
    EXPECT_FALSE(parse_image_config(json)) << json;
}

TEST(ArchiveManifest, ImagesTagsAndLayers) {
  auto images = parse_archive_manifest(
      R"([{"Config":"c.json","RepoTags":["busybox:latest"],"Layers":["a/layer.tar","b/layer.tar"]},)"
      R"({"Config":"d.json","RepoTags":null,"Layers":[]}])");
  ASSERT_TRUE(images) << images.error().message();
  ASSERT_EQ(images->size(), 2U);
  EXPECT_THAT((*images)[0].layers, testing::ElementsAre("a/layer.tar", "b/layer.tar"));
  EXPECT_TRUE((*images)[1].repo_tags.empty());
  for (const char* json : {"{}", "[7]", R"([{}])", R"([{"Config":7}])", R"([{"Config":"c","Layers":[7]}])"})
    EXPECT_FALSE(parse_archive_manifest(json)) << json;
}

TEST(Manifest, ANewOneKeepsWhatTheOldOneSaysOfTheSameBlobs) {
  std::string old = manifest(std::string(media::kDockerConfig), std::string(media::kDockerLayerGzip),
                             R"("annotations":{"of":"all"},)");
  old.insert(old.rfind('}', old.rfind(']')), R"(,"urls":["u"],"annotations":{"of":"it"})");
  auto parsed = parse_manifest(old);
  ASSERT_TRUE(parsed) << parsed.error().message();
  EXPECT_TRUE(parsed->layers[0].has_urls);
  parsed->layers[0].media_type = to_oci_type(parsed->layers[0].media_type);
  std::string text = format_manifest_like(*parsed, old);
  for (const char* part : {R"("of":"all")", R"("of":"it")", R"("urls":["u"])", "layer.v1.tar+gzip"})
    EXPECT_THAT(text, HasSubstr(part));
  parsed->layers[0].digest = {};
  parsed->layers[0].annotations.clear();
  text = format_manifest_like(*parsed, old);
  EXPECT_THAT(text, HasSubstr(R"("of":"all")"));
  EXPECT_THAT(text, testing::Not(HasSubstr("urls")));
  EXPECT_EQ(format_manifest_like(*parsed, "no JSON"), format_manifest(*parsed));
}

TEST(Manifest, DockersTypesHaveTheOcisWords) {
  EXPECT_EQ(to_oci_type(media::kDockerLayerTar), media::kOciLayerTar);
  EXPECT_EQ(to_oci_type(media::kDockerLayerZstd), media::kOciLayerZstd);
  EXPECT_EQ(to_oci_type("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip");
  EXPECT_EQ(to_oci_type(media::kOciLayerGzip), media::kOciLayerGzip);
  EXPECT_EQ(layer_compression(media::kDockerLayerGzip), Compression::kGzip);
  EXPECT_EQ(layer_compression(media::kOciLayerZstd), Compression::kZstd);
  EXPECT_EQ(layer_compression(media::kDockerLayerTar), Compression::kNone);
  EXPECT_TRUE(is_foreign_layer_type("application/vnd.oci.image.layer.nondistributable.v1.tar"));
  EXPECT_FALSE(is_foreign_layer_type(media::kOciLayerTar));
}

TEST(Platforms, ArmTakesTheBestVariantThatItRuns) {
  auto chosen = [](const std::vector<std::string>& variants, const std::string& wanted) -> std::string {
    std::vector<Descriptor> manifests;
    for (const auto& variant : variants) {
      Descriptor entry;
      entry.platform = Platform{"linux", "arm", variant};
      manifests.push_back(entry);
    }
    const Descriptor* found = choose_platform(manifests, {"linux", "arm", wanted});
    return found == nullptr ? "none" : "arm/" + found->platform->variant;
  };
  EXPECT_EQ(chosen({"v5", "v6", "v7", "v8"}, "v7"), "arm/v7");
  EXPECT_EQ(chosen({"v5", "v6", "v8"}, "v7"), "arm/v6");
  EXPECT_EQ(chosen({"v5", "", "v6"}, "v8"), "arm/v6");
  EXPECT_EQ(chosen({"v8", ""}, "v7"), "arm/");
  EXPECT_EQ(chosen({"v8", "v7"}, "v6"), "none");
  EXPECT_EQ(chosen({"v5", "v7", "v6"}, ""), "arm/v7");
  EXPECT_EQ(chosen({"v5", "", "v7"}, ""), "arm/");
  EXPECT_EQ(chosen({"v9"}, ""), "arm/v9");
  EXPECT_EQ(chosen({"v9"}, "v9"), "arm/v9");
}

}  // namespace
}  // namespace layerfs::image
