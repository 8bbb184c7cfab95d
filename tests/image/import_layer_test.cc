// SPDX-License-Identifier: Apache-2.0
// What the entries of a layer become, what is refused, and that a layer can be given back as it came.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/sysmacros.h>

#include <chrono>
#include <thread>

#include "fs/image/layer_import.h"
#include "tests/base/time_bound.h"
#include "tests/image/import_support.h"

namespace layerfs::image {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using tree::LayerRecord;
using tree::RecordKind;
using Json = nlohmann::json;

class ImportLayer : public ImportTest {
 protected:
  /// Sends the tar in pieces of `piece` bytes through add_layer_from_tar.
  Result<store::LayerInfo> stream(const std::string& tar, std::size_t piece = 4096) {
    return add_layer_from_tar(
        *store_,
        [&](const TarSink& sink) -> Result<void> {
          for (std::size_t at = 0; at < tar.size(); at += piece)
            LAYERFS_TRY(sink(std::string_view(tar).substr(at, piece)));
          return {};
        },
        options_.limits);
  }

  std::string stream_error(const std::string& tar) {
    auto info = stream(tar);
    EXPECT_FALSE(*store_->has_layer(sha256(tar))) << "a refused layer is in the store";
    return info ? "imported" : info.error().message();
  }

  std::vector<LayerRecord> records(const Digest& diff_id) {
    std::vector<LayerRecord> list;
    auto layer = store_->get_layer(diff_id);
    EXPECT_TRUE(layer) << layer.error().message();
    EXPECT_TRUE((*layer)->for_each([&](const LayerRecord& record) -> Result<void> {
      list.push_back(record);
      return {};
    }));
    return list;
  }

  std::vector<LayerRecord> records_of(const std::string& tar) {
    auto info = stream(tar);
    EXPECT_TRUE(info) << info.error().message();
    return info ? records(info->diff_id) : std::vector<LayerRecord>{};
  }
};

TEST_F(ImportLayer, EntriesBecomeRecordsInTheOrderOfTheTar) {
  TarBuilder tar;
  tar.add({.name = "./", .type = '5', .mode = 0755, .mtime = 3});
  tar.pax({{"mtime", "1.000000002"}, {"ctime", "9"}, {"SCHILY.xattr.user.x", "y"}});
  tar.add({.name = "./dir/file", .content = "content", .mode = 06711, .uid = 1, .gid = 2});
  tar.add({.name = "dir/.wh.gone", .content = ""});
  tar.add({.name = "dir/.wh..wh..opq"});
  tar.add({.name = ".wh..wh.plnk", .type = '5'});
  tar.add({.name = "hard", .type = '1', .link = "./dir/file"});
  tar.add({.name = "soft", .type = '2', .link = "../any//where", .mode = 0644});
  tar.add({.name = "tty", .type = '3', .device_major = 4, .device_minor = 300});
  tar.file("empty", "");
  auto list = records_of(tar.finish());
  ASSERT_EQ(list.size(), 8U);
  EXPECT_EQ(list[0].path, "");
  EXPECT_EQ(list[0].node.kind, tree::NodeKind::kDirectory);
  const auto& file = list[1];
  EXPECT_EQ(file.path, "dir/file");
  EXPECT_EQ(file.node.mode, 06711);
  EXPECT_EQ(file.node.size, 7U);
  EXPECT_EQ(file.node.content, tree::ContentKind::kObject);
  EXPECT_EQ(file.node.object, sha256("content"));
  EXPECT_EQ(file.node.mtime, (tree::Time{1, 2}));
  EXPECT_EQ(file.node.atime, (tree::Time{1, 2})) << "without an atime it is the mtime";
  EXPECT_EQ(file.node.ctime, (tree::Time{9, 0}));
  EXPECT_THAT(file.xattrs, ElementsAre(Pair("user.x", "y")));
  EXPECT_EQ(list[2].kind, RecordKind::kWhiteout);
  EXPECT_EQ(list[2].path, "dir/gone");
  EXPECT_EQ(list[3].kind, RecordKind::kOpaque);
  EXPECT_EQ(list[3].path, "dir");
  EXPECT_EQ(list[4].kind, RecordKind::kHardLink);
  EXPECT_EQ(list[4].target, "dir/file");
  EXPECT_EQ(list[5].target, "../any//where") << "a link's text is kept as it is";
  EXPECT_EQ(list[5].node.mode, 0777);
  EXPECT_EQ(list[5].node.size, 13U);
  EXPECT_EQ(list[6].node.rdev, ::makedev(4, 300));
  EXPECT_EQ(list[7].node.content, tree::ContentKind::kNone);
}

TEST_F(ImportLayer, InfoCountsEntriesContentsAndBytes) {
  std::string tar =
      TarBuilder().dir("d/").file("d/a", "12345").file("d/b", "678").finish() + std::string(4096, '\0');
  auto info = stream(tar);
  ASSERT_TRUE(info) << info.error().message();
  EXPECT_EQ(info->diff_id, sha256(tar));
  EXPECT_EQ(info->tar_bytes, tar.size());
  EXPECT_EQ(info->content_bytes, 8U);
  EXPECT_EQ(info->entries, 3U);
}

TEST_F(ImportLayer, EveryTarIsGivenBackBitByBit) {
  std::string large(3'000'000, '\0');
  for (std::size_t i = 0; i < large.size(); ++i) large[i] = static_cast<char>(i * i >> 7);
  TarBuilder tar;
  tar.pax({{"comment", "global"}}, 'g').pax({{"path", "long/" + std::string(200, 'n')}}).file("x", "abc");
  tar.file("large", large).file("small", std::string(70'000, 's')).file("mid", std::string(513, 'm'));
  tar.pax({{"GNU.sparse.size", "2000"}, {"GNU.sparse.map", "0,4,1000,2"}}).file("sparse", "AAAABB");
  tar.gnu_long('L', std::string(150, 'g'))
      .file("x", "gnu")
      .add({.name = ".wh.w", .content = "odd but allowed"});
  tar.add({.name = "v7", .content = "v7", .dialect = TarDialect::kV7}).end().raw(std::string(20'000, '\0'));
  std::string bytes = tar.raw("and garbage").bytes();
  for (std::size_t piece : {1000UL, 100'000UL, 5'000'000UL}) {
    auto info = stream(bytes, piece);
    ASSERT_TRUE(info) << info.error().message();
    EXPECT_TRUE(framed_tar(info->diff_id) == bytes);
  }
  expect_sound();
}

TEST_F(ImportLayer, PaddingThatIsNotZeroIsGivenBackToo) {
  std::string tar = TarBuilder().file("f", "abc").finish();
  tar[kTarBlock + 100] = '!';
  auto info = stream(tar);
  ASSERT_TRUE(info);
  EXPECT_TRUE(framed_tar(info->diff_id) == tar);
}

TEST_F(ImportLayer, SparseFilesAreObjectsWithHolesOrJustHoles) {
  TarBuilder tar;
  tar.pax({{"GNU.sparse.size", "2000"}, {"GNU.sparse.map", "0,4,1000,2"}}).file("sparse", "AAAABB");
  tar.pax({{"GNU.sparse.size", "99999999"}, {"GNU.sparse.map", "99999999,0"}}).file("hole", "");
  auto list = records_of(tar.finish());
  ASSERT_EQ(list.size(), 2U);
  std::string content = "AAAA" + std::string(996, '\0') + "BB" + std::string(998, '\0');
  EXPECT_EQ(list[0].node.object, sha256(content));
  EXPECT_EQ(list[0].node.size, 2000U);
  EXPECT_EQ(list[1].node.content, tree::ContentKind::kNone);
  EXPECT_EQ(list[1].node.size, 99999999U);
}

TEST_F(ImportLayer, HostileEntriesAreRefusedByName) {
  struct Row {
    BuiltEntry entry;
    const char* error;
  };
  std::string long_name(300, 'n');
  const Row rows[] = {
      {{.name = "../evil"}, "tar entry '../evil': '..' in the name"},
      {{.name = "a/../../evil"}, "tar entry 'a/../../evil': '..' in the name"},
      {{.name = "/../etc/evil"}, "tar entry '/../etc/evil': '..' in the name"},
      {{.name = "dir/.wh."}, "tar entry 'dir/.wh.': a whiteout of no name"},
      {{.name = ".wh.x/y"}, "a whiteout as a parent directory"},
      {{.name = "", .type = '5'}, "an empty name"},
      {{.name = ".", .content = "x"}, "tar entry '.': the root must be a directory"},
      {{.name = "./", .type = '2', .link = "x"}, "the root must be a directory"},
      {{.name = "./", .type = '1', .link = "x"}, "a hard link in place of the root"},
      {{.name = "l", .type = '1', .link = "../x"}, "tar entry 'l': '..' in the name"},
      {{.name = "l", .type = '1', .link = ""}, "a hard link to an empty name"},
      {{.name = "l", .type = '1', .link = "./l"}, "a hard link to itself"},
      {{.name = "s", .type = '2', .link = ""}, "a symbolic link without a target"},
  };
  for (const auto& row : rows)
    EXPECT_THAT(stream_error(TarBuilder().file("before", "x").add(row.entry).finish()), HasSubstr(row.error));
  auto with_pax = [&](const char* key, const std::string& value, char type) {
    return stream_error(
        TarBuilder().pax({{key, value}}).add({.name = "e", .type = type, .link = "t"}).finish());
  };
  EXPECT_THAT(with_pax("path", "d/" + std::string(256, 'x'), '0'),
              HasSubstr("a component longer than 255 bytes"));
  std::string deep;
  while (deep.size() < 4100) deep += "dir/";
  EXPECT_THAT(with_pax("path", deep, '0'), HasSubstr("a path longer than 4095 bytes"));
  EXPECT_THAT(with_pax("path", std::string("a\0b", 3), '0'), HasSubstr("a NUL in the name"));
  EXPECT_THAT(with_pax("linkpath", std::string(5000, 'x'), '2'),
              HasSubstr("a link target longer than 4095 bytes"));
  EXPECT_THAT(with_pax("linkpath", std::string("a\0b", 3), '2'), HasSubstr("a NUL in the link target"));
}

TEST_F(ImportLayer, AnErrorNamesTheLayerToo) {
  LayoutBuilder layout;
  std::string evil = TarBuilder().file("../evil", "x").finish();
  Json image = layout.add_image({small_tar(), evil});
  std::string blob = sha256(compress(evil, Compression::kGzip)).str();
  EXPECT_THAT(import_error("oci:" + write_layout(layout.finish({image}))),
              HasSubstr("import layer '" + blob + "': tar entry '../evil': '..' in the name"));
}

TEST_F(ImportLayer, LimitsOnEntriesBytesAndExpansion) {
  std::string tar = TarBuilder().file("a", "").file("b", "").file("c", std::string(5000, 'c')).finish();
  options_.limits.entries = 2;
  EXPECT_THAT(stream_error(tar), HasSubstr("tar entry 'c': more than 2 entries in the layer"));
  options_.limits.entries = 3;
  options_.limits.layer_bytes = tar.size() - 1;
  EXPECT_THAT(stream_error(tar), HasSubstr("(the limit can be raised)"));
  options_.limits.layer_bytes = tar.size();
  EXPECT_TRUE(stream(tar));
}

TEST_F(ImportLayer, ACompressedLayerStopsAtTheLimitOfItsBytes) {
  write_text(dir_ / "zeros.tar",
             compress(TarBuilder().file("zeros", std::string(3 << 20, '\0')).finish(), Compression::kGzip));
  options_.limits.layer_bytes = 1 << 20;
  EXPECT_THAT(import_error("tar:" + (dir_ / "zeros.tar")), HasSubstr("more than 1048576 bytes"));
}

TEST(ProduceBlob, ABombStopsAtTheLimitOfItsExpansion) {
  // Far above 100 MiB of zeros in a few KiB: one frame, again and again.
  std::string frame = compress(std::string(1 << 20, '\0'), Compression::kZstd);
  std::string bomb;
  for (int i = 0; i < 150; ++i) bomb += frame;
  ASSERT_LT(bomb.size(), 50'000U);
  auto produce = [&](std::uint64_t expansion) {
    ChunkRing ring(1);
    std::uint64_t drained = 0;
    std::jthread consumer([&] {
      for (auto chunk = ring.next(0); chunk && !chunk->empty(); chunk = ring.next(0))
        drained += chunk->size();
    });
    ImportLimits limits;
    limits.expansion = expansion;
    MemorySource source(bomb);
    auto produced = produce_blob(source, {}, limits, ring);
    if (produced) {
      ring.close();
    } else {
      ring.abort();
    }
    consumer.join();
    EXPECT_TRUE(!produced || drained == std::uint64_t{150} << 20);
    return produced ? std::string() : produced.error().message();
  };
  EXPECT_THAT(produce(1000), HasSubstr("more than 1000 times its compressed size"));
  EXPECT_EQ(produce(1'000'000), "");
}

TEST_F(ImportLayer, HolesCostNothingHoweverLongTheyAre) {
  // Two TB in a tar of a few KB; a byte in the middle and one at the end.
  constexpr std::uint64_t kSize = std::uint64_t{2} << 40;
  std::string middle = std::to_string(kSize / 2);
  std::string last = std::to_string(kSize - 1);
  std::string tar = TarBuilder()
                        .pax({{"GNU.sparse.size", std::to_string(kSize)},
                              {"GNU.sparse.map", "0,1," + middle + ",1," + last + ",1"}})
                        .file("s", "xyz")
                        .finish();
  const ProcessorTimer timer;
  auto list = records_of(tar);
  EXPECT_LT(timer.elapsed(), patience(std::chrono::seconds(5)));
  ASSERT_EQ(list.size(), 1U);
  EXPECT_EQ(list[0].node.size, kSize);
  auto blob = store_->objects().open(list[0].node.object);
  ASSERT_TRUE(blob) << blob.error().message();
  char byte = 0;
  ASSERT_TRUE(pread_full(blob->file->get(), std::as_writable_bytes(std::span(&byte, 1)), kSize - 1));
  EXPECT_EQ(byte, 'z');
  EXPECT_TRUE(store_->objects().verify(list[0].node.object));
  expect_sound();
}

TEST_F(ImportLayer, AMillionExtentsAreReadInLinearTime) {
  for (std::uint64_t gap : {std::uint64_t{1}, std::uint64_t{4095}}) {
    constexpr int kExtents = 100'000;
    std::string table = std::to_string(kExtents) + "\n";
    for (int i = 0; i < kExtents; ++i)
      table += std::to_string(static_cast<std::uint64_t>(i) * (gap + 1)) + "\n1\n";
    table.resize((table.size() + 511) / 512 * 512, '\0');
    std::string tar = TarBuilder()
                          .pax({{"GNU.sparse.major", "1"},
                                {"GNU.sparse.minor", "0"},
                                {"GNU.sparse.name", "s"},
                                {"GNU.sparse.realsize", std::to_string(kExtents * (gap + 1))}})
                          .file("x", table + std::string(kExtents, 'd'))
                          .finish();
    const ProcessorTimer timer;
    auto list = records_of(tar);
    EXPECT_LT(timer.elapsed(), patience(std::chrono::seconds(5)));
    ASSERT_EQ(list.size(), 1U);
    EXPECT_EQ(list[0].node.size, kExtents * (gap + 1));
  }
}

TEST_F(ImportLayer, DataBetweenHolesIsCountedByWholeBlocks) {
  std::string map;
  for (int i = 0; i < 1000; ++i) map += (i == 0 ? "" : ",") + std::to_string(i * 8192) + ",1";
  std::string tar = TarBuilder()
                        .pax({{"GNU.sparse.size", "8192000"}, {"GNU.sparse.map", map}})
                        .file("s", std::string(1000, 'x'))
                        .finish();
  options_.limits.layer_bytes = 4'095'999;
  EXPECT_THAT(stream_error(tar), HasSubstr("tar entry 's': sparse files that take more than 4095999 bytes"));
  options_.limits.layer_bytes = 4'096'000;
  EXPECT_TRUE(stream(tar));
}

TEST_F(ImportLayer, WhatALayerMakesTheStoreKeepIsLimited) {
  options_.limits.metadata_bytes = 1000;
  EXPECT_TRUE(stream(TarBuilder().file("a", "").add({.name = "l", .type = '2', .link = "t"}).finish()));
  std::string long_name(500, 'n');
  EXPECT_THAT(stream_error(TarBuilder()
                               .pax({{"linkpath", long_name}})
                               .add({.name = "a", .type = '2', .link = "x"})
                               .pax({{"linkpath", long_name}})
                               .add({.name = "b", .type = '2', .link = "x"})
                               .finish()),
              HasSubstr("tar entry 'b': more than 1000 bytes of names"));
  EXPECT_THAT(stream_error(
                  TarBuilder().pax({{"SCHILY.xattr.user.x", std::string(2000, 'v')}}).file("x", "").finish()),
              HasSubstr("tar entry 'x': more than 1000 bytes of names"));
  std::string many;
  TarBuilder builder;
  for (int i = 0; i < 16; ++i) builder.file("f" + std::to_string(i), "");
  EXPECT_THAT(stream_error(builder.finish()), HasSubstr("more than 1000 bytes of names"));
}

TEST_F(ImportLayer, GlobalXattrsOfManyEntriesAreCountedForEach) {
  TarBuilder builder;
  builder.pax({{"SCHILY.xattr.user.x", std::string(60'000, 'v')}}, 'g');
  for (int i = 0; i < 100; ++i) builder.file("f" + std::to_string(i), "");
  options_.limits.metadata_bytes = 1 << 20;
  EXPECT_THAT(stream_error(builder.finish()), HasSubstr("tar entry 'f17': more than 1048576 bytes of names"));
}

TEST_F(ImportLayer, PaxRecordsOfOneEntryAreCountedTogether) {
  std::string half(600 << 10, 'v');
  EXPECT_TRUE(stream(TarBuilder().pax({{"comment", half}}).file("a", "").finish()));
  EXPECT_THAT(
      stream_error(TarBuilder().pax({{"comment", half}}).pax({{"comment2", half}}).file("a", "").finish()),
      HasSubstr("more than 1 MiB of pax records for one entry"));
}

TEST_F(ImportLayer, ImpliedDirectoriesAndFilesOfTheImageAreCounted) {
  std::string deep;
  for (int i = 0; i < 1000; ++i) deep += "a/";
  TarBuilder builder;
  for (int i = 0; i < 20; ++i) builder.pax({{"path", std::to_string(i) + "/" + deep + "f"}}).file("x", "");
  std::string tar = builder.finish();
  write_text(dir_ / "deep.tar", tar);
  options_.limits.entries = 1000;
  EXPECT_THAT(import_error("tar:" + (dir_ / "deep.tar")), HasSubstr("more than 1000 files and directories"));
  options_.limits.entries = 1'000'000;
  options_.limits.implied_directories = 5000;
  EXPECT_THAT(import_error("tar:" + (dir_ / "deep.tar")), HasSubstr("more than 5000 directories"));
  options_.limits.implied_directories = 50'000;
  EXPECT_TRUE(import("tar:" + (dir_ / "deep.tar")));
}

TEST_F(ImportLayer, AbsoluteNamesLieBelowTheRootOfTheImage) {
  write_text(dir_ / "absolute.tar", TarBuilder()
                                        .dir("/etc/")
                                        .file("/etc/one", "1")
                                        .file("//etc/two", "2")
                                        .add({.name = "/etc/hard", .type = '1', .link = "/etc/one"})
                                        .add({.name = "/etc/soft", .type = '2', .link = "/etc/one"})
                                        .finish());
  auto image = import("tar:" + (dir_ / "absolute.tar"));
  ASSERT_TRUE(image) << image.error().message();
  EXPECT_EQ(content(*image, "etc/one"), "1");
  EXPECT_EQ(content(*image, "etc/two"), "2");
  EXPECT_EQ(content(*image, "etc/hard"), "1");
  EXPECT_EQ(content(*image, "etc/soft"), "/etc/one");
}

TEST_F(ImportLayer, AHundredThousandOfEachAreNoProblem) {
  if (kSanitized) GTEST_SKIP() << "it would take minutes";
  constexpr int kMany = 100'000;
  const ProcessorTimer timer;
  TarBuilder lower;
  lower.dir("d/").file("f", "x");
  for (int i = 0; i < kMany; ++i) lower.file("d/" + std::to_string(i), "");
  TarBuilder upper;
  for (int i = 0; i < kMany; ++i) {
    std::string name = std::to_string(i);
    upper.file("d/.wh." + name, "");
    upper.add({.name = "hard" + name, .type = '1', .link = "f"});
    upper.add({.name = "soft" + name, .type = '2', .link = "d/" + name});
  }
  std::string lower_tar = lower.finish();
  std::string upper_tar = upper.finish();
  LayoutBuilder layout;
  Json lower_layer = layout.add_layer(lower_tar, Compression::kNone);
  Json upper_layer = layout.add_layer(upper_tar, Compression::kNone);
  Json config = LayoutBuilder::config_of({lower_tar, upper_tar});
  for (int i = 0; i < kMany; ++i) {
    std::string text = "k" + std::to_string(i);
    config["history"].push_back({{"created_by", text}});
    config["config"]["Env"].push_back(text + "=v");
    config["config"]["Labels"][text] = "v";
  }
  Json image = layout.add_manifest(config, {lower_layer, upper_layer});
  for (int i = 0; i < kMany; ++i) image["annotations"]["a" + std::to_string(i)] = "v";
  options_.name = "many";
  auto imported = import("oci:" + write_layout(layout.finish({image})));
  ASSERT_TRUE(imported) << imported.error().message();
  EXPECT_EQ(find(*imported, "f")->node.nlink, static_cast<unsigned>(kMany) + 1);
  EXPECT_LT(timer.elapsed(), std::chrono::seconds(60));
}

TEST_F(ImportLayer, AnErrorOfTheProducerIsTheErrorAndNothingIsLeft) {
  std::string tar = small_tar();
  auto info = add_layer_from_tar(
      *store_,
      [&](const TarSink& sink) -> Result<void> {
        LAYERFS_TRY(sink(std::string_view(tar).substr(0, 700)));
        return system_error(EIO, "read", "the upper");
      },
      options_.limits);
  ASSERT_FALSE(info);
  EXPECT_THAT(info.error().message(), HasSubstr("read 'the upper'"));
  auto thrown = add_layer_from_tar(
      *store_, [](const TarSink&) -> Result<void> { throw std::bad_alloc(); }, options_.limits);
  ASSERT_FALSE(thrown);
  EXPECT_EQ(thrown.error().code, ENOMEM);
  ASSERT_TRUE(store_->gc());
  expect_sound();
}

TEST_F(ImportLayer, LayersThatAreThereAreNotReadAgain) {
  LayoutBuilder layout;
  Json image = layout.add_image({small_tar(), small_tar("two"), small_tar()});
  FileMap& files = layout.finish({image});
  ASSERT_TRUE(import("oci:" + write_layout(files)));
  // Damage of the same size: an import that read the blob would see it.
  for (auto& [path, bytes] : files)
    if (bytes.starts_with("\x1f\x8b")) bytes.assign(bytes.size(), 'x');
  EXPECT_TRUE(import("oci:" + write_layout(files)));
}

TEST_F(ImportLayer, TheSameLayerTwiceWritesNothingTwice) {
  std::string tar =
      TarBuilder().file("a", std::string(200'000, 'a')).file("b", std::string(3000, 'b')).finish();
  ASSERT_TRUE(stream(tar));
  // Other layers with the same contents, and the same layer again.
  auto before = store_->usage();
  ASSERT_TRUE(before);
  ASSERT_TRUE(stream(tar));
  ASSERT_TRUE(
      stream(TarBuilder().file("c", std::string(3000, 'b')).file("d", std::string(200'000, 'a')).finish()));
  auto after = store_->usage();
  ASSERT_TRUE(after);
  EXPECT_EQ(after->object_disk_bytes, before->object_disk_bytes);
}

TEST_F(ImportLayer, TwoImportsAtOnceOfTheSameImageAreBothRight) {
  LayoutBuilder layout;
  std::vector<std::string> tars;
  for (int i = 0; i < 6; ++i) {
    TarBuilder tar;
    for (int k = 0; k < 50; ++k)
      tar.file("f" + std::to_string(k),
               std::string(static_cast<std::size_t>(100 + 2000 * i + k), static_cast<char>('a' + k % 26)));
    tars.push_back(tar.file("big", std::string(200'000, static_cast<char>('A' + i / 2))).finish());
  }
  Json image = layout.add_image(tars);
  std::string source = "oci:" + write_layout(layout.finish({image}));
  auto other = open_store();
  ASSERT_TRUE(other);
  Result<store::ImageRecord> results[3];
  {
    std::jthread one([&] { results[0] = import_image(*store_, source, options_); });
    std::jthread two([&] { results[1] = import_image(*other, source, options_); });
    std::jthread three([&] { results[2] = import_image(*store_, source, options_); });
  }
  for (const auto& result : results) {
    ASSERT_TRUE(result) << result.error().message();
    EXPECT_EQ(result->layers, results[0]->layers);
    EXPECT_EQ(content(*result, "big"), std::string(200'000, 'C'));
  }
  EXPECT_EQ(store_->list_images()->size(), 1U);
  expect_sound();
}

TEST_F(ImportLayer, AnErrorOfProgressEndsTheImportAndLeavesNothing) {
  options_.progress = [&](const ImportProgress&) -> Result<void> {
    return system_error(EINTR, "signal", "2");
  };
  LayoutBuilder layout;
  Json image = layout.add_image({small_tar(), small_tar("two")});
  std::string tree = dir_ / "tree";
  ASSERT_TRUE(make_dir(tree, 0755));
  for (const std::string& source : {"oci:" + write_layout(layout.finish({image})), "dir:" + tree}) {
    auto imported = import(source);
    ASSERT_FALSE(imported) << source;
    EXPECT_EQ(imported.error().code, EINTR) << source;
    auto images = store_->list_images();
    ASSERT_TRUE(images);
    EXPECT_TRUE(images->empty());
    auto collected = store_->gc();
    ASSERT_TRUE(collected);
    EXPECT_EQ(collected->leftovers_removed, 0U) << source;
  }
}

TEST_F(ImportLayer, ProgressEndsWithEverythingDone) {
  LayoutBuilder layout;
  Json image = layout.add_image({small_tar(), small_tar("two")});
  std::string source = "oci:" + write_layout(layout.finish({image}));
  ImportProgress last;
  auto caller = std::this_thread::get_id();
  options_.progress = [&](const ImportProgress& progress) {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    EXPECT_GE(progress.bytes_done, last.bytes_done);
    last = progress;
    return Result<void>();
  };
  ASSERT_TRUE(import(source));
  EXPECT_EQ(last.layers_done, 2U);
  EXPECT_EQ(last.layers_total, 2U);
  EXPECT_GT(last.bytes_total, 0U);
  EXPECT_EQ(last.bytes_done, last.bytes_total);
}

TEST_F(ImportLayer, AMergeThatFailsLeavesNoImage) {
  std::string tar = TarBuilder().add({.name = "l", .type = '1', .link = "nothing"}).finish();
  write_text(dir_ / "l.tar", tar);
  EXPECT_THAT(import_error("tar:" + (dir_ / "l.tar")), HasSubstr("'l'"));
}

}  // namespace
}  // namespace layerfs::image
