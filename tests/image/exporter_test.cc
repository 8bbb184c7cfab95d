// SPDX-License-Identifier: Apache-2.0
#include "fs/image/exporter.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "tests/image/import_support.h"
#include "tests/image/tar_listing.h"

namespace layerfs::image {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Json = nlohmann::json;

class Exporter : public ImportTest {
 protected:
  void SetUp() override {
    ImportTest::SetUp();
    LayoutBuilder builder;
    std::string large(300000, 'l');
    tars_ = {TarBuilder().dir("etc/").file("etc/a", "a\n").file("large", large).finish(),
             TarBuilder().file("etc/b", "b\n").file("etc/.wh.a", "").finish()};
    tars_.push_back(tars_[1]);  // the same layer once more
    tars_.push_back(TarBuilder().add({.name = "etc/link", .type = '1', .link = "etc/b"}).finish());
    auto manifest = builder.add_image(tars_, Compression::kGzip);
    options_.name = "image:v1";
    auto imported = import("oci:" + write_layout(builder.finish({LayoutBuilder::tagged(manifest, "v1")})));
    ASSERT_TRUE(imported) << imported.error().message();
    image_ = *imported;
  }

  void export_to(const std::string& destination, ExportOptions options = {}) {
    auto done = export_image(*store_, image_, destination, options);
    ASSERT_TRUE(done) << done.error().message();
  }
  std::string export_error(const std::string& destination, ExportOptions options = {}) {
    auto done = export_image(*store_, image_, destination, options);
    return done ? "exported" : done.error().message();
  }
  std::string text(const std::string& path) {
    auto read = read_file(path);
    EXPECT_TRUE(read) << read.error().message();
    return read ? *read : "";
  }
  Json index_of(const std::string& layout) { return Json::parse(text(layout + "/index.json")); }
  std::string blob(const std::string& layout, const Json& descriptor) {
    std::string digest = descriptor["digest"];
    std::string bytes = text(layout + "/blobs/sha256/" + digest.substr(7));
    EXPECT_EQ(sha256(bytes).str(), digest);
    EXPECT_EQ(bytes.size(), descriptor["size"].get<std::uint64_t>());
    return bytes;
  }
  /// Imports it into a store of its own; the image must be the same.
  void expect_comes_back(const std::string& source) {
    auto other = store::Store::open(dir_ / "other", store::StoreAccess::kWrite);
    ASSERT_TRUE(other);
    auto again = import_image(**other, source, {});
    ASSERT_TRUE(again) << again.error().message();
    EXPECT_EQ(again->config, image_.config);
    EXPECT_EQ(again->chain, image_.chain);
    ASSERT_EQ(again->layers.size(), image_.layers.size());
    for (std::size_t i = 0; i < image_.layers.size(); ++i)
      EXPECT_EQ(again->layers[i].diff_id, image_.layers[i].diff_id);
    other->reset();
    EXPECT_TRUE(remove_tree(dir_ / "other"));
  }
  /// What lies in the directory of destinations besides `known`.
  std::vector<std::string> leftovers(std::vector<std::string> known) {
    auto names = list_dir(dir_.path()).value();
    known.insert(known.end(), {"store", "layout"});
    std::erase_if(names, [&](const auto& name) { return std::ranges::count(known, name) != 0; });
    return names;
  }
  void damage_a_layer() {
    // The large file is an object of its own.
    Digest digest = sha256(std::string(300000, 'l'));
    std::string path = dir_ / ("store/objects/" + digest.hex().substr(0, 2) + '/' + digest.hex());
    for (const auto& name :
         {path, dir_ / ("store/objects/" + digest.hex().substr(0, 2) + '/' + digest.hex().substr(2))}) {
      if (::access(name.c_str(), F_OK) != 0) continue;
      ASSERT_EQ(::chmod(name.c_str(), 0644), 0);
      auto fd = open_file(name, O_WRONLY);
      ASSERT_TRUE(fd);
      ASSERT_TRUE(pwrite_full(fd->get(), as_bytes("DAMAGE"), 1000));
      // As a disk that turns a bit would: the time of the file stays (FORMAT.md, "Objects").
      struct timespec times[2] = {{0, UTIME_OMIT}, {1, 0}};
      ASSERT_EQ(::futimens(fd->get(), times), 0);
      return;
    }
    FAIL() << "no object to damage";
  }

  std::vector<std::string> tars_;
  store::ImageRecord image_;
};

TEST_F(Exporter, LayoutHasVerifiedBlobsAndTheSameConfig) {
  for (Compression compression : {Compression::kGzip, Compression::kZstd, Compression::kNone}) {
    std::string layout = dir_ / "out";
    ASSERT_TRUE(remove_tree(layout));
    export_to("oci:" + layout + ":tag", {.compression = compression, .level = 0});
    Json index = index_of(layout);
    ASSERT_EQ(index["manifests"].size(), 1U);
    EXPECT_EQ(index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], "tag");
    Json manifest = Json::parse(blob(layout, index["manifests"][0]));
    EXPECT_EQ(manifest["config"]["digest"], image_.config.str());
    blob(layout, manifest["config"]);
    ASSERT_EQ(manifest["layers"].size(), tars_.size());
    for (const auto& layer : manifest["layers"]) blob(layout, layer);
    if (compression == Compression::kNone) {
      for (std::size_t i = 0; i < tars_.size(); ++i) EXPECT_EQ(blob(layout, manifest["layers"][i]), tars_[i]);
    }
    EXPECT_EQ(text(layout + "/oci-layout"), R"({"imageLayoutVersion":"1.0.0"})");
    expect_comes_back("oci:" + layout + ":tag");
  }
  EXPECT_THAT(leftovers({"out"}), ElementsAre());
}

TEST_F(Exporter, SameBlobsKeepTheManifest) {
  LayoutBuilder builder;
  auto plain = builder.add_image(tars_, Compression::kNone);
  options_.name = "plain";
  auto imported = import("oci:" + write_layout(builder.finish({LayoutBuilder::tagged(plain, "x")})));
  ASSERT_TRUE(imported) << imported.error().message();
  image_ = *imported;
  export_to("oci:" + (dir_ / "out"), {.compression = Compression::kNone, .level = 0});
  EXPECT_EQ(index_of(dir_ / "out")["manifests"][0]["digest"], image_.manifest.str());
}

TEST_F(Exporter, TagIsTheImagesOwnWhereNoneIsGiven) {
  export_to("oci:" + (dir_ / "out"));
  EXPECT_EQ(index_of(dir_ / "out")["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], "v1");
}

TEST_F(Exporter, LayoutKeepsItsOtherImages) {
  std::string layout = dir_ / "out";
  export_to("oci:" + layout + ":one");
  export_to("oci:" + layout + ":two", {.compression = Compression::kZstd, .level = 0});
  Json index = index_of(layout);
  // What somebody else put there stays too.
  index["manifests"][0]["annotations"]["org.example"] = "kept";
  ASSERT_TRUE(write_file_atomic(layout + "/index.json", index.dump(), 0644));
  export_to("oci:" + layout + ":two");
  index = index_of(layout);
  ASSERT_EQ(index["manifests"].size(), 2U);
  EXPECT_EQ(index["manifests"][0]["annotations"]["org.example"], "kept");
  EXPECT_EQ(index["manifests"][1]["annotations"]["org.opencontainers.image.ref.name"], "two");
  expect_comes_back("oci:" + layout + ":one");
  expect_comes_back("oci:" + layout + ":two");
}

TEST_F(Exporter, DirectoryThatIsNoLayoutIsLeftAlone) {
  ASSERT_TRUE(make_dirs(dir_ / "out", 0755));
  write_text(dir_ / "out/file", "mine");
  EXPECT_THAT(export_error("oci:" + (dir_ / "out")), HasSubstr("neither empty nor an OCI layout"));
  EXPECT_THAT(list_dir(dir_ / "out").value(), ElementsAre("file"));
  write_text(dir_ / "plain", "mine");
  EXPECT_THAT(export_error("oci:" + (dir_ / "plain")), HasSubstr("not a directory"));
}

TEST_F(Exporter, EmptyDirectoryBecomesTheLayout) {
  ASSERT_TRUE(make_dirs(dir_ / "out", 0755));
  export_to("oci:" + (dir_ / "out/"));
  expect_comes_back("oci:" + (dir_ / "out"));
}

TEST_F(Exporter, ProgressEndsWithEverythingDone) {
  for (const char* destination : {"oci:", "oci-archive:", "docker-archive:"}) {
    ExportProgress last;
    ExportOptions options;
    options.progress = [&](const ExportProgress& progress) {
      EXPECT_GE(progress.bytes_done, last.bytes_done);
      last = progress;
      return Result<void>();
    };
    export_to(destination + dir_ / "out", options);
    EXPECT_GT(last.bytes_total, 300000U);
    EXPECT_EQ(last.bytes_done, last.bytes_total) << destination;
    EXPECT_TRUE(remove_tree(dir_ / "out"));
  }
}

TEST_F(Exporter, AnErrorOfProgressLeavesNothing) {
  ExportOptions options;
  options.progress = [](const ExportProgress& progress) -> Result<void> {
    if (progress.bytes_done < 200000) return {};
    return system_error(EINTR, "signal", "15");
  };
  for (const char* destination : {"oci:", "oci-archive:", "docker-archive:", "tar:"}) {
    EXPECT_NE(export_error(destination + dir_ / "out", options).find("signal '15'"), std::string::npos);
    EXPECT_TRUE(leftovers({}).empty()) << destination;
  }
}

TEST_F(Exporter, OciArchiveComesBack) {
  export_to("oci-archive:" + (dir_ / "out.tar") + ":tag");
  expect_comes_back("oci-archive:" + (dir_ / "out.tar"));
  std::vector<std::string> names = names_of(list_tar(text(dir_ / "out.tar")));
  // Two directories, three layers (one is there twice), config, manifest, two documents.
  EXPECT_EQ(names.size(), 9U);
  EXPECT_EQ(names.back(), "oci-layout");
  EXPECT_THAT(leftovers({"out.tar"}), ElementsAre());
}

TEST_F(Exporter, DockerArchiveIsBothForms) {
  export_to("docker-archive:" + (dir_ / "out.tar"));
  auto entries = list_tar(text(dir_ / "out.tar"));
  std::map<std::string, std::string> files;
  for (const auto& entry : entries) files[entry.member.name] = entry.content;
  Json manifest = Json::parse(files.at("manifest.json"));
  ASSERT_EQ(manifest.size(), 1U);
  EXPECT_EQ(manifest[0]["RepoTags"], Json::parse(R"(["localhost/image:v1"])"));
  EXPECT_EQ(sha256(files.at(manifest[0]["Config"])), image_.config);
  ASSERT_EQ(manifest[0]["Layers"].size(), tars_.size());
  for (std::size_t i = 0; i < tars_.size(); ++i) EXPECT_EQ(files.at(manifest[0]["Layers"][i]), tars_[i]);
  EXPECT_TRUE(Json::parse(files.at("repositories")).contains("localhost/image"));
  Json index = Json::parse(files.at("index.json"));
  EXPECT_EQ(index["manifests"][0]["annotations"]["io.containerd.image.name"], "localhost/image:v1");
  EXPECT_TRUE(files.contains("oci-layout"));
  expect_comes_back("docker-archive:" + (dir_ / "out.tar"));
  expect_comes_back("oci-archive:" + (dir_ / "out.tar"));
}

TEST_F(Exporter, DockerArchiveTakesAnotherName) {
  export_to("docker-archive:" + (dir_ / "out.tar") + ":example.org/other:v2",
            {.compression = Compression::kGzip, .level = 1});
  expect_comes_back("docker-archive:" + (dir_ / "out.tar") + ":example.org/other:v2");
}

TEST_F(Exporter, TarIsTheMergedTree) {
  export_to("tar:" + (dir_ / "out.tar"));
  auto entries = list_tar(text(dir_ / "out.tar"));
  EXPECT_THAT(names_of(entries), ElementsAre("./", "etc/", "etc/b", "etc/link", "large"));
  EXPECT_EQ(entries[2].content, "b\n");
  EXPECT_EQ(entries[3].member.link, "etc/b");
  EXPECT_EQ(entries[4].content.size(), 300000U);
  export_to("tar:" + (dir_ / "out.tgz"), {.compression = Compression::kGzip, .level = 0});
  auto imported = import("tar:" + (dir_ / "out.tgz"));
  ASSERT_TRUE(imported) << imported.error().message();
  EXPECT_EQ(imported->layers[0].diff_id, sha256(text(dir_ / "out.tar")));
}

TEST_F(Exporter, TarOfTheTreeGoesThroughAFifo) {
  std::string path = dir_ / "fifo";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  auto reader = open_file(path, O_RDWR);
  ASSERT_TRUE(reader);
  ASSERT_GT(::fcntl(reader->get(), F_SETPIPE_SZ, 1 << 20), 0);
  export_to("tar:" + path);
  struct stat st;
  ASSERT_EQ(::lstat(path.c_str(), &st), 0);
  EXPECT_TRUE(S_ISFIFO(st.st_mode));
}

TEST_F(Exporter, SameImageGivesTheSameBytes) {
  for (std::string transport : {"oci-archive:", "docker-archive:", "tar:"}) {
    export_to(transport + (dir_ / "one"));
    export_to(transport + (dir_ / "two"));
    EXPECT_EQ(text(dir_ / "one"), text(dir_ / "two")) << transport;
  }
}

TEST_F(Exporter, DamagedLayerLeavesNothingBehind) {
  export_to("oci:" + (dir_ / "kept"));
  auto blobs_before = list_dir(dir_ / "kept/blobs/sha256").value().size();
  write_text(dir_ / "file", "older");
  damage_a_layer();
  EXPECT_THAT(export_error("oci:" + (dir_ / "out")), HasSubstr("diffID"));
  EXPECT_THAT(
      export_error("oci:" + (dir_ / "kept") + ":second", {.compression = Compression::kZstd, .level = 0}),
      HasSubstr("diffID"));
  EXPECT_THAT(export_error("oci-archive:" + (dir_ / "file")), HasSubstr("diffID"));
  EXPECT_THAT(export_error("docker-archive:" + (dir_ / "new.tar")), HasSubstr("diffID"));
  EXPECT_THAT(export_error("tar:" + (dir_ / "tree.tar")), HasSubstr("its bytes have another digest"));
  EXPECT_EQ(text(dir_ / "file"), "older");
  EXPECT_THAT(leftovers({"file", "kept"}), ElementsAre());
  EXPECT_EQ(list_dir(dir_ / "kept/blobs/sha256").value().size(), blobs_before);
  EXPECT_EQ(list_dir(dir_ / "kept/blobs").value().size(), 1U);
  EXPECT_EQ(index_of(dir_ / "kept")["manifests"].size(), 1U);
}

TEST_F(Exporter, DestinationsOfNoSuchFormAreRefused) {
  for (const char* destination :
       {"", "oci", "oci:", "docker:x", "oci:/tmp/x:", "oci-archive:", "tar:", "/tmp/x"})
    EXPECT_THAT(export_error(destination), HasSubstr("export to")) << destination;
  EXPECT_THAT(export_error("oci-archive:/dev/null"), HasSubstr("not a regular file"));
  EXPECT_THAT(export_error("tar:" + dir_.path()), HasSubstr("is a directory"));
  EXPECT_THAT(export_error("oci:" + (dir_ / "out"), {.compression = Compression::kGzip, .level = 11}),
              HasSubstr("compression level"));
  EXPECT_THAT(leftovers({}), ElementsAre());
}

}  // namespace
}  // namespace layerfs::image
