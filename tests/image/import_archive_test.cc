// SPDX-License-Identifier: Apache-2.0
// Import of docker-archives, root file system tars, directories and standard input.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "fs/image/dir_source.h"
#include "tests/base/time_bound.h"
#include "tests/image/import_support.h"
#include "tests/image/tar_reading.h"

namespace layerfs::image {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Json = nlohmann::json;

class ImportArchive : public ImportTest {
 protected:
  /// `docker save` before version 25: layers in directories, repeated ones as symbolic links.
  static std::string docker_archive(const std::string& config_name = "") {
    std::string lower = small_tar();
    std::string upper = TarBuilder().file("etc/issue", "new").finish();
    std::string config = LayoutBuilder::config_of({lower, upper, lower}).dump();
    std::string name = config_name.empty() ? sha256(config).hex() + ".json" : config_name;
    Json manifest = Json::array({{{"Config", name},
                                  {"RepoTags", {"demo:1", "demo:2"}},
                                  {"Layers", {"a/layer.tar", "b/layer.tar", "c/layer.tar"}}}});
    return TarBuilder()
        .dir("a/")
        .file("a/layer.tar", lower)
        .file("a/VERSION", "1.0")
        .file("b/layer.tar", compress(upper, Compression::kGzip))
        .add({.name = "c/layer.tar", .type = '2', .link = "../a/layer.tar"})
        .file(name, config)
        .file("manifest.json", manifest.dump())
        .finish();
  }

  std::string write_archive(std::string_view bytes, const std::string& name = "archive.tar") {
    write_text(dir_ / name, bytes);
    return dir_ / name;
  }
};

TEST_F(ImportArchive, OldDockerArchiveWithLinkedAndCompressedLayers) {
  auto image = import("docker-archive:" + write_archive(docker_archive()));
  ASSERT_TRUE(image) << image.error().message();
  EXPECT_EQ(image->reference, "localhost/demo:1");
  EXPECT_TRUE(*store_->find_image("localhost/demo:2")) << "all its tags are names";
  ASSERT_EQ(image->layers.size(), 3U);
  EXPECT_EQ(image->layers[0].diff_id, image->layers[2].diff_id);
  EXPECT_EQ(content(*image, "etc/issue"), "new");
  // The manifest that was made for it describes the layers as the store can give them.
  auto manifest = parse_manifest(*store_->get_blob(image->manifest));
  ASSERT_TRUE(manifest) << manifest.error().message();
  EXPECT_EQ(manifest->layers[1].digest, image->layers[1].diff_id);
  EXPECT_EQ(manifest->layers[1].size, framed_tar(image->layers[1].diff_id).size());
  EXPECT_EQ(manifest->config.digest, image->config);
  auto again = import("docker-archive:" + (dir_ / "archive.tar") + ":demo:2");
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_EQ(again->manifest, image->manifest) << "the same manifest, though the layers were not read again";
  expect_sound();
}

TEST_F(ImportArchive, DockerArchiveCompressedAsAWhole) {
  EXPECT_TRUE(import("docker-archive:" + write_archive(compress(docker_archive(), Compression::kGzip))));
}

TEST_F(ImportArchive, DockerArchiveVerifiesItsConfigByName) {
  EXPECT_THAT(import_error("docker-archive:" + write_archive(docker_archive(std::string(64, 'a') + ".json"))),
              HasSubstr("its digest is"));
  EXPECT_TRUE(import("docker-archive:" + write_archive(docker_archive("config.json"))));
}

TEST_F(ImportArchive, DockerArchiveWithoutThatReference) {
  EXPECT_THAT(import_error("docker-archive:" + write_archive(docker_archive()) + ":other:1"),
              HasSubstr("reference 'other:1': not in the archive; there are: demo:1, demo:2"));
}

TEST_F(ImportArchive, LinksOutOfAnArchiveAreNotFollowed) {
  for (const char* link : {"../../etc/passwd", "b/layer.tar", "missing"}) {
    Json manifest = Json::array({{{"Config", "c.json"}, {"Layers", {"b/layer.tar"}}}});
    std::string tar = TarBuilder()
                          .file("c.json", LayoutBuilder::config_of({small_tar()}).dump())
                          .add({.name = "b/layer.tar", .type = '2', .link = link})
                          .file("manifest.json", manifest.dump())
                          .finish();
    EXPECT_THAT(import_error("docker-archive:" + write_archive(tar)), HasSubstr("b/layer.tar")) << link;
  }
}

TEST_F(ImportArchive, NewDockerArchiveIsALayoutAndKeepsItsManifest) {
  LayoutBuilder layout;
  std::string tar = small_tar();
  Json config = LayoutBuilder::config_of({tar});
  Json descriptor = layout.add_manifest(config, {layout.add_layer(tar, Compression::kNone)});
  Json named = descriptor;
  named["annotations"] = {{kContainerdNameAnnotation, "docker.io/library/demo:1"}, {kRefNameAnnotation, "1"}};
  FileMap files = layout.finish({named});
  files["manifest.json"] = Json::array({{{"Config", "blobs/sha256/" + sha256(config.dump()).hex()},
                                         {"RepoTags", {"demo:1", "demo:old"}},
                                         {"Layers", {"blobs/sha256/" + sha256(tar).hex()}}}})
                               .dump();
  std::string path = write_archive(tar_of(files));
  for (const char* name : {"", ":demo:1", ":docker.io/library/demo:1"}) {
    auto image = import("docker-archive:" + path + name);
    ASSERT_TRUE(image) << image.error().message();
    EXPECT_EQ(image->manifest.str(), descriptor["digest"].get<std::string>()) << name;
    EXPECT_EQ(image->reference, "docker.io/library/demo:1");
  }
  auto older = import("docker-archive:" + path + ":demo:old");
  ASSERT_TRUE(older) << older.error().message();
  EXPECT_EQ(older->config.hex(), sha256(config.dump()).hex());
}

TEST_F(ImportArchive, RootFileSystemTarsPlainAndCompressed) {
  std::string tar = TarBuilder().file("a", "1").add({.name = "b", .mtime = 1'000'000'000}).finish();
  std::optional<store::ImageRecord> first;
  for (Compression compression : {Compression::kNone, Compression::kGzip, Compression::kZstd}) {
    std::string path =
        write_archive(compression == Compression::kNone ? tar : compress(tar, compression), "root.tar.gz");
    auto image = import("tar:" + path);
    ASSERT_TRUE(image) << image.error().message();
    EXPECT_EQ(image->reference, "localhost/root:latest");
    ASSERT_EQ(image->layers.size(), 1U);
    EXPECT_EQ(image->layers[0].diff_id, sha256(tar));
    EXPECT_EQ(content(*image, "a"), "1");
    EXPECT_TRUE(!first || image->config == first->config) << "the same tree is the same image";
    first = *image;
  }
  auto config = Json::parse(*store_->get_blob(first->config));
  EXPECT_EQ(config["os"], "linux");
  EXPECT_EQ(config["architecture"], host_platform().architecture);
  EXPECT_EQ(config["created"], "2001-09-09T01:46:40Z") << "the newest entry's time";
  EXPECT_EQ(config["history"].size(), 1U);
  EXPECT_TRUE(parse_image_config(*store_->get_blob(first->config)));
  EXPECT_TRUE(parse_manifest(*store_->get_blob(first->manifest)));
}

TEST_F(ImportArchive, ABombAroundAnArchiveStopsAtTheRatioOfALayer) {
  // 105 MiB of zeros, which would be in no layer, in a few KiB around an archive.
  TarBuilder builder;
  builder.file("blobs/sha256/x", std::string(std::size_t{105} << 20, '\0'));
  std::string tar = builder.finish();
  for (Compression compression : {Compression::kZstd, Compression::kGzip}) {
    std::string bomb = compress(compress(tar, compression), Compression::kNone);
    write_text(dir_ / "bomb", bomb);
    options_.limits.expansion = 500;
    for (const char* transport : {"oci-archive:", "docker-archive:", "tar:"})
      EXPECT_THAT(import_error(transport + (dir_ / "bomb")),
                  HasSubstr("more than 500 times its compressed size"))
          << transport;
  }
}

TEST_F(ImportArchive, SourcesThatNeverEndAreRefused) {
  options_.name = "x";
  for (const char* transport : {"oci-archive:", "docker-archive:", "tar:"})
    EXPECT_THAT(import_error(std::string(transport) + "/dev/zero"),
                HasSubstr("more than 67108864 bytes after the end of the archive"))
        << transport;
  for (const char* transport : {"oci-archive:", "docker-archive:", "tar:"})
    EXPECT_THAT(import_error(std::string(transport) + "/dev/urandom"), testing::Not(HasSubstr("imported")))
        << transport;
  // A pipe that goes on for ever with what is no archive.
  std::string fifo = dir_ / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  ::signal(SIGPIPE, SIG_IGN);
  for (const char* transport : {"oci-archive:", "tar:"}) {
    std::jthread writer([&] {
      auto fd = open_file(fifo, O_WRONLY);
      std::string text(65536, 'x');
      while (fd && write_full(fd->get(), as_bytes(text))) {
      }
    });
    EXPECT_THAT(import_error(transport + fifo), HasSubstr("wrong checksum")) << transport;
  }
}

TEST_F(ImportArchive, NamesOfAnImageAreLimited) {
  Json tags = Json::array();
  for (int i = 0; i < 100'000; ++i) tags.push_back("tag" + std::to_string(i) + ":1");
  std::string layer = small_tar();
  std::string config = LayoutBuilder::config_of({layer}).dump();
  Json manifest = Json::array({{{"Config", "c.json"}, {"RepoTags", tags}, {"Layers", {"l.tar"}}}});
  write_text(dir_ / "many.tar", TarBuilder()
                                    .file("c.json", config)
                                    .file("l.tar", layer)
                                    .file("manifest.json", manifest.dump())
                                    .finish());
  EXPECT_THAT(import_error("docker-archive:" + (dir_ / "many.tar")),
              HasSubstr("100000 names for the image, more than 1000"));
  options_.limits.names = 100'000;
  const ProcessorTimer timer;
  EXPECT_TRUE(import("docker-archive:" + (dir_ / "many.tar")));
  EXPECT_TRUE(import("docker-archive:" + (dir_ / "many.tar")));
  EXPECT_EQ(store_->list_images()->size(), 100'000U);
  EXPECT_LT(timer.elapsed(), patience(std::chrono::seconds(30)));
}

TEST_F(ImportArchive, ATarCutAnywhereIsRefusedWhetherCompressedOrNot) {
  std::string tar = small_tar();
  for (Compression compression : {Compression::kNone, Compression::kGzip, Compression::kZstd}) {
    std::string bytes = compression == Compression::kNone ? tar : compress(tar, compression);
    // Of a plain tar one block of the end marker is enough to say that it is whole.
    std::size_t whole = compression == Compression::kNone ? bytes.size() - kTarBlock : bytes.size();
    for (std::size_t size = 0; size < whole; size += compression == Compression::kNone ? 173 : 11) {
      write_text(dir_ / "cut.tar", std::string_view(bytes).substr(0, size));
      EXPECT_NE(import_error("tar:" + (dir_ / "cut.tar")), "imported") << size;
    }
  }
}

TEST_F(ImportArchive, StandardInputNeedsAName) {
  std::string path = write_archive(compress(small_tar(), Compression::kZstd));
  EXPECT_THAT(import_error("-"), HasSubstr("it has no name for the image"));
  int saved = ::dup(STDIN_FILENO);
  {
    auto fd = open_file(path, O_RDONLY);
    ASSERT_TRUE(fd);
    ASSERT_EQ(::dup2(fd->get(), STDIN_FILENO), STDIN_FILENO);
  }
  options_.name = "piped";
  auto image = import("-");
  ::dup2(saved, STDIN_FILENO);
  ::close(saved);
  ASSERT_TRUE(image) << image.error().message();
  EXPECT_EQ(image->reference, "localhost/piped:latest");
  EXPECT_EQ(content(*image, "etc/motd"), "hello");
}

class ImportDirectory : public ImportArchive {
 protected:
  void SetUp() override {
    ImportArchive::SetUp();
    root_ = dir_ / "Root FS";
    ASSERT_TRUE(make_dirs(root_ + "/b/c", 0750));
    write_text(root_ + "/b/file", "contents");
    ASSERT_EQ(::chmod((root_ + "/b/file").c_str(), 02751), 0);
    ASSERT_EQ(::link((root_ + "/b/file").c_str(), (root_ + "/z").c_str()), 0);
    ASSERT_EQ(::symlink("/nowhere", (root_ + "/link").c_str()), 0);
    ASSERT_EQ(::mkfifo((root_ + "/fifo").c_str(), 0600), 0);
    write_text(root_ + "/a\xff\n" + std::string(200, 'x'), "odd name");
    struct timespec times[2] = {{.tv_sec = 5, .tv_nsec = 6}, {.tv_sec = -7, .tv_nsec = 8}};
    ASSERT_EQ(::utimensat(AT_FDCWD, (root_ + "/b/file").c_str(), times, 0), 0);
  }
  std::string root_;
};

TEST_F(ImportDirectory, BecomesOneLayer) {
  auto image = import("dir:" + root_);
  ASSERT_TRUE(image) << image.error().message();
  EXPECT_EQ(image->reference, "localhost/root-fs:latest");
  auto file = find(*image, "b/file");
  ASSERT_TRUE(file);
  EXPECT_EQ(file->node.mode, 02751);
  EXPECT_EQ(to_number(file->node.uid), ::getuid());
  EXPECT_EQ(file->node.mtime, (tree::Time{-7, 8}));
  EXPECT_EQ(file->node.nlink, 2U);
  EXPECT_EQ(find(*image, "z")->ino, file->ino);
  EXPECT_EQ(content(*image, "z"), "contents");
  EXPECT_EQ(content(*image, "link"), "/nowhere");
  EXPECT_EQ(find(*image, "fifo")->node.kind, tree::NodeKind::kFifo);
  EXPECT_EQ(find(*image, "b/c")->node.mode, 0750);
  EXPECT_EQ(content(*image, "a\xff\n" + std::string(200, 'x')), "odd name");
  auto again = import("dir:" + root_);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->config, image->config);
  expect_sound();
}

TEST_F(ImportDirectory, ASparseFileStaysSparse) {
  auto fd = open_file(root_ + "/sparse", O_WRONLY | O_CREAT, 0644);
  ASSERT_TRUE(fd);
  ASSERT_TRUE(pwrite_full(fd->get(), as_bytes("end"), (std::uint64_t{4} << 20) - 3));
  auto image = import("dir:" + root_);
  ASSERT_TRUE(image) << image.error().message();
  EXPECT_EQ(content(*image, "sparse"), std::string((4 << 20) - 3, '\0') + "end");
  EXPECT_LT(framed_tar(image->layers[0].diff_id).size(), 1U << 20) << "the tar has its holes";
  auto blob = store_->objects().open(find(*image, "sparse")->node.object);
  ASSERT_TRUE(blob);
  EXPECT_LT(stat_fd(blob->file->get())->st_blocks * 512, 1 << 20) << "so has the object";
}

TEST_F(ImportDirectory, SocketsAreLeftOutAndWhiteoutNamesRefused) {
  ASSERT_EQ(::mknod((root_ + "/socket").c_str(), S_IFSOCK | 0600, 0), 0);
  auto image = import("dir:" + root_);
  ASSERT_TRUE(image) << image.error().message();
  EXPECT_FALSE(find(*image, "socket"));
  write_text(root_ + "/b/.wh.x", "");
  auto refused = import("dir:" + root_);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("'b/.wh.x': a name that reads as a whiteout"));
}

TEST_F(ImportDirectory, TheTarIsSortedAndCanonical) {
  std::string tar;
  ASSERT_TRUE(write_directory_tar(root_, [&](std::string_view bytes) -> Result<void> {
    tar += bytes;
    return {};
  }));
  Reading reading = read_tar(tar);
  EXPECT_EQ(reading.error, "");
  std::vector<std::string> names;
  for (const auto& member : reading.members) names.push_back(member.member.name);
  EXPECT_THAT(names, ElementsAre("./", "a\xff\n" + std::string(200, 'x'), "b/", "b/c/", "b/file", "fifo",
                                 "link", "z"));
  EXPECT_EQ(import("dir:" + root_)->layers[0].diff_id, sha256(tar));
}

TEST_F(ImportDirectory, MissingAndOtherThanDirectories) {
  EXPECT_THAT(import_error("dir:" + (dir_ / "none")), HasSubstr("no such file or directory"));
  EXPECT_THAT(import_error("dir:" + root_ + "/z"), HasSubstr("not a directory"));
  EXPECT_THAT(import_error("tar:" + root_), HasSubstr("is a directory"));
}

}  // namespace
}  // namespace layerfs::image
