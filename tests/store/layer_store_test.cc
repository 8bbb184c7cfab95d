// SPDX-License-Identifier: Apache-2.0
// Layers: published whole or not at all, given back as they came, damage found before it is believed.
#include <fcntl.h>
#include <sys/sysmacros.h>

#include "fs/store/block_file.h"
#include "tests/store/support.h"

namespace layerfs::store {
namespace {

using tree::LayerRecord;
using tree::RecordKind;

LayerRecord full_record() {
  LayerRecord record;
  record.path = "usr/bin/\xff\xfe name";
  record.node.kind = tree::NodeKind::kRegular;
  record.node.content = tree::ContentKind::kObject;
  record.node.mode = 04755;
  record.node.uid = tree::Uid{70'000};
  record.node.gid = tree::Gid{1};
  record.node.size = 123;
  record.node.mtime = {-1, 999'999'999};
  record.node.atime = {5, 6};
  record.node.ctime = {7, 8};
  record.node.object = sha256("contents");
  record.xattrs = {{"security.capability", std::string("\0\1\2", 3)}, {"user.empty", ""}};
  return record;
}

class LayerStoreTest : public StoreTest {
 protected:
  std::vector<LayerRecord> records_of(const StoredLayer& layer) {
    std::vector<LayerRecord> records;
    value_of(layer.for_each([&](const LayerRecord& record) -> Result<void> {
      records.push_back(record);
      return {};
    }));
    return records;
  }
  Digest publish_some(int entries) {
    std::vector<TestFile> files;
    for (int i = 0; i < entries; ++i)
      files.push_back({"file" + std::to_string(i), "contents " + std::to_string(i)});
    return value_of(write_layer(*store_, files));
  }
  std::string layer_path(const Digest& diff_id, const char* name) {
    return path("layers/" + diff_id.hex() + "/" + name);
  }
};

bool same(const LayerRecord& a, const LayerRecord& b) {
  return a.kind == b.kind && a.path == b.path && a.target == b.target && a.node == b.node &&
         a.xattrs == b.xattrs;
}

TEST_F(LayerStoreTest, RecordsComeBackInOrderWithAllFields) {
  std::vector<LayerRecord> given{full_record()};
  LayerRecord root;
  root.node.kind = tree::NodeKind::kDirectory;
  given.push_back(root);
  LayerRecord device;
  device.path = "dev/null";
  device.node.kind = tree::NodeKind::kCharDevice;
  device.node.rdev = makedev(1, 3);
  given.push_back(device);
  LayerRecord link;
  link.kind = RecordKind::kHardLink;
  link.path = "b";
  link.target = "usr/bin/a";
  given.push_back(link);
  LayerRecord symlink;
  symlink.path = "c";
  symlink.node.kind = tree::NodeKind::kSymlink;
  symlink.node.content = tree::ContentKind::kInline;
  symlink.target = "../any//thing/.";
  given.push_back(symlink);
  for (auto kind : {RecordKind::kWhiteout, RecordKind::kOpaque}) {
    LayerRecord mark;
    mark.kind = kind;
    mark.path = "gone";
    given.push_back(mark);
  }
  auto writer = value_of(store_->make_layer_writer());
  for (const auto& record : given) ASSERT_DONE(writer->add_record(record));
  LayerInfo info{sha256("layer"), 1, 2, 3};
  EXPECT_FALSE(value_of(store_->has_layer(info.diff_id)));
  ASSERT_DONE(writer->publish(info));
  EXPECT_TRUE(value_of(store_->has_layer(info.diff_id)));
  auto layer = value_of(store_->get_layer(info.diff_id));
  EXPECT_EQ(layer->info().diff_id, info.diff_id);
  EXPECT_EQ(layer->info().tar_bytes, 1U);
  EXPECT_EQ(layer->info().content_bytes, 2U);
  EXPECT_EQ(layer->info().entries, 3U);
  for (int round = 0; round < 2; ++round) {
    auto found = records_of(*layer);
    ASSERT_EQ(found.size(), given.size());
    for (std::size_t i = 0; i < given.size(); ++i) EXPECT_TRUE(same(found[i], given[i])) << given[i].path;
  }
}

TEST_F(LayerStoreTest, FramingGivesTheTarBack) {
  std::string tar;
  auto writer = value_of(store_->make_layer_writer());
  auto objects = value_of(store_->objects().make_writer());
  for (std::uint64_t i = 0; i < 300; ++i) {
    std::string raw = random_bytes(i * 13 % 2000, i);
    std::string content = random_bytes(i * 37 % 900, 1000 + i);
    tar += raw;
    ASSERT_DONE(writer->add_raw(raw));
    if (content.empty()) continue;
    tar += content;
    ASSERT_DONE(writer->add_object(value_of(objects->put(as_bytes(content))), content.size()));
  }
  std::string long_raw = random_bytes(1'000'000, 5);
  tar += long_raw;
  ASSERT_DONE(writer->add_raw(long_raw));
  ASSERT_DONE(objects->finish());
  LayerInfo info{sha256(tar), tar.size(), 0, 300};
  ASSERT_DONE(writer->publish(info));
  auto layer = value_of(store_->get_layer(info.diff_id));
  std::string again;
  ASSERT_DONE(layer->for_each_frame(
      [&](std::string_view raw, const Digest* digest, std::uint64_t size) -> Result<void> {
        if (digest == nullptr) {
          EXPECT_EQ(raw.size(), size);
          again += raw;
          return {};
        }
        LAYERFS_ASSIGN(tree::Blob blob, store_->objects().open(*digest));
        EXPECT_EQ(blob.size, size);
        again += read_blob(blob);
        return {};
      }));
  EXPECT_TRUE(again == tar);
  EXPECT_EQ(problems_of(*store_), "");
}

TEST_F(LayerStoreTest, AVisitorsErrorEndsTheReading) {
  auto layer = value_of(store_->get_layer(publish_some(5)));
  int seen = 0;
  auto done = layer->for_each([&](const LayerRecord&) -> Result<void> {
    return ++seen == 2 ? Result<void>(errno_error(ECANCELED)) : Result<void>{};
  });
  EXPECT_EQ(done.error().code, ECANCELED);
  EXPECT_EQ(seen, 2);
}

TEST_F(LayerStoreTest, AnEmptyLayerIsALayer) {
  Digest diff_id = publish_some(0);
  EXPECT_TRUE(records_of(*value_of(store_->get_layer(diff_id))).empty());
}

TEST_F(LayerStoreTest, AnAbandonedWriterLeavesNothing) {
  {
    auto writer = value_of(store_->make_layer_writer());
    ASSERT_DONE(writer->add_record(full_record()));
    ASSERT_DONE(writer->add_raw("raw"));
  }
  EXPECT_TRUE(files_of(root_).empty());
}

TEST_F(LayerStoreTest, PublishingTwiceKeepsTheFirst) {
  Digest diff_id = publish_some(3);
  auto before = value_of(open_file(layer_path(diff_id, "records"), O_RDONLY));
  EXPECT_EQ(publish_some(3), diff_id);
  auto after = value_of(open_file(layer_path(diff_id, "records"), O_RDONLY));
  EXPECT_EQ(value_of(stat_fd(before.get())).st_ino, value_of(stat_fd(after.get())).st_ino);
  EXPECT_EQ(problems_of(*store_), "");
}

TEST_F(LayerStoreTest, PublishingOverADamagedLayerReplacesIt) {
  Digest diff_id = publish_some(3);
  std::filesystem::resize_file(layer_path(diff_id, "framing"), 20);
  EXPECT_EQ(store_->get_layer(diff_id).error().kind, ErrorKind::kCorrupt);
  EXPECT_EQ(publish_some(3), diff_id);
  EXPECT_TRUE(store_->get_layer(diff_id));
  EXPECT_EQ(problems_of(*store_), "");
}

TEST_F(LayerStoreTest, PathsThatALayerMayNotHaveAreRefused) {
  auto writer = value_of(store_->make_layer_writer());
  for (const std::string& path :
       {std::string("/abs"), std::string("a/"), std::string("a//b"), std::string("./a"),
        std::string("a/../b"), std::string(256, 'n'), std::string("a\0b", 3), std::string(5000, 'p')}) {
    LayerRecord record;
    record.path = path;
    EXPECT_EQ(writer->add_record(record).error().kind, ErrorKind::kInvalid) << path;
  }
}

TEST_F(LayerStoreTest, AMissingLayerIsNamed) {
  auto layer = store_->get_layer(sha256("nothing"));
  ASSERT_FALSE(layer);
  EXPECT_EQ(layer.error().code, ENOENT);
  EXPECT_NE(layer.error().message().find(sha256("nothing").str()), std::string::npos);
}

/// Reads all of a layer; the error's kind where that fails.
std::optional<ErrorKind> read_all(Store& store, const Digest& diff_id) {
  auto layer = store.get_layer(diff_id);
  if (!layer) return layer.error().kind;
  auto records = (*layer)->for_each([](const LayerRecord&) -> Result<void> { return {}; });
  if (!records) return records.error().kind;
  auto frames = (*layer)->for_each_frame(
      [](std::string_view, const Digest*, std::uint64_t) -> Result<void> { return {}; });
  if (!frames) return frames.error().kind;
  return std::nullopt;
}

TEST_F(LayerStoreTest, EveryFlippedByteIsAnError) {
  Digest diff_id = publish_some(20);
  for (const char* name : {"records", "framing"}) {
    std::string file = layer_path(diff_id, name);
    std::string whole = value_of(read_file(file));
    auto fd = value_of(open_file(file, O_WRONLY));
    for (std::size_t at = 0; at < whole.size(); ++at) {
      char wrong = static_cast<char>(whole[at] ^ 0x11);
      ASSERT_DONE(pwrite_full(fd.get(), std::as_bytes(std::span(&wrong, 1)), at));
      auto kind = read_all(*store_, diff_id);
      // A damaged version number looks like a newer version.
      EXPECT_TRUE(kind == ErrorKind::kCorrupt || (at >= 8 && at < 12 && kind == ErrorKind::kUnsupported))
          << name << at;
      ASSERT_DONE(pwrite_full(fd.get(), std::as_bytes(std::span(&whole[at], 1)), at));
    }
  }
  EXPECT_FALSE(read_all(*store_, diff_id).has_value());
}

TEST_F(LayerStoreTest, EveryTruncationIsAnError) {
  Digest diff_id = publish_some(20);
  for (const char* name : {"records", "framing"}) {
    std::string file = layer_path(diff_id, name);
    std::string whole = value_of(read_file(file));
    for (std::size_t size = 0; size < whole.size(); ++size) {
      std::filesystem::resize_file(file, size);
      EXPECT_EQ(read_all(*store_, diff_id), ErrorKind::kCorrupt) << name << size;
    }
    auto fd = value_of(open_file(file, O_WRONLY | O_TRUNC));
    ASSERT_DONE(write_full(fd.get(), as_bytes(whole)));
  }
  EXPECT_FALSE(read_all(*store_, diff_id).has_value());
}

TEST_F(LayerStoreTest, AnotherLayersFilesAreNotTaken) {
  Digest first = publish_some(3);
  Digest second = publish_some(4);
  std::filesystem::copy_file(layer_path(first, "framing"), layer_path(second, "framing"),
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_EQ(store_->get_layer(second).error().kind, ErrorKind::kCorrupt);
}

TEST(BlockFileTest, ItemsLongerThanABlockStayWhole) {
  TemporaryDirectory directory;
  std::string path = directory.path() + "/blocks";
  std::vector<std::string> items = {random_bytes(1'000'000, 1), "x", random_bytes(300'000, 2),
                                    random_bytes(10, 3)};
  auto writer = value_of(
      BlockWriter::make(value_of(open_file(path, O_WRONLY | O_CREAT, 0600)), BlockFileKind::kRecords));
  for (const auto& item : items) ASSERT_DONE(writer.add(item));
  EXPECT_EQ(writer.add(std::string(kMaxBlock + 1, 'x')).error().kind, ErrorKind::kInvalid);
  ASSERT_DONE(writer.finish("foot"));
  ASSERT_DONE(writer.sync());
  EXPECT_EQ(BlockFile::open(path, BlockFileKind::kFraming).error().kind, ErrorKind::kCorrupt);
  auto file = value_of(BlockFile::open(path, BlockFileKind::kRecords));
  EXPECT_EQ(file.footer(), "foot");
  BlockReader reader(file);
  std::string all;
  for (;;) {
    auto block = value_of(reader.next());
    if (block.empty()) break;
    all += block;
  }
  EXPECT_TRUE(all == items[0] + items[1] + items[2] + items[3]);
}

TEST_F(LayerStoreTest, WhatWentToRegistriesIsRememberedWithTheLayer) {
  Digest layer = value_of(write_layer(*store_, {{"f", "x"}}));
  EXPECT_TRUE(value_of(store_->sent_blobs(layer)).empty());
  EXPECT_TRUE(value_of(store_->sent_blobs(sha256("none"))).empty());
  EXPECT_EQ(store_->remember_sent_blob(sha256("none"), {"gzip:0", sha256("b"), 1, "h/p"}).error().code,
            ENOENT);
  SentBlob one{"gzip:0", sha256("1"), 1, "host:5000/path"};
  SentBlob other{"zstd:3", sha256("2"), 22, "host:5000/path"};
  ASSERT_DONE(store_->remember_sent_blob(layer, one));
  ASSERT_DONE(store_->remember_sent_blob(layer, other));
  reopen();
  EXPECT_EQ(value_of(store_->sent_blobs(layer)), (std::vector{one, other}));
  one.digest = sha256("3");
  ASSERT_DONE(store_->remember_sent_blob(layer, one));  // in the place of the older one
  EXPECT_EQ(value_of(store_->sent_blobs(layer)), (std::vector{other, one}));
  for (std::size_t i = 0; i < kMaxSentBlobs; ++i)
    ASSERT_DONE(store_->remember_sent_blob(layer, {"gzip:0", sha256("x"), i, "host/" + std::to_string(i)}));
  auto kept = value_of(store_->sent_blobs(layer));
  ASSERT_EQ(kept.size(), kMaxSentBlobs);
  EXPECT_EQ(kept.front().repository, "host/0");
  EXPECT_TRUE(value_of(store_->check(CheckDepth::kContents)).problems.empty());
  // What cannot be read of it counts as nothing.
  std::string file = path("layers/" + layer.hex() + "/sent");
  std::string good = "gzip:0 " + sha256("1").str() + " 7 h/p\n";
  for (const std::string& bad : {std::string("a\n"), "gzip:0 sha256:1 7 h/p\n" + std::string(),
                                 "gzip:0 " + sha256("1").str() + " 7x h/p\n", good + "extra"}) {
    value_of(write_file_atomic(file, "layerfs sent 1\n" + bad, 0600));
    EXPECT_EQ(value_of(store_->sent_blobs(layer)).size(), bad == good + "extra" ? 1U : 0U) << bad;
  }
  value_of(write_file_atomic(file, "layerfs sent 2\n" + good, 0600));
  EXPECT_TRUE(value_of(store_->sent_blobs(layer)).empty());
  // It goes with its layer.
  value_of(store_->gc());
  EXPECT_FALSE(std::filesystem::exists(path("layers/" + layer.hex())));
}

}  // namespace
}  // namespace layerfs::store
