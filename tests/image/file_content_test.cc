// SPDX-License-Identifier: Apache-2.0
#include "fs/image/file_content.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "fs/base/bytes.h"
#include "fs/base/sys_file.h"
#include "fs/tree/memory_blobs.h"
#include "fs/tree/memory_tree.h"
#include "fs/upper/memory_upper.h"

namespace layerfs::image {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using tree::ContentKind;
using tree::Ino;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

class FileContentTest : public testing::Test {
 protected:
  FileContent of_object(const std::string& bytes) {
    tree::Node node;
    node.content = ContentKind::kObject;
    node.object = blobs_.put(bytes).value();
    node.size = bytes.size();
    return FileContent::of_node(Ino{2}, node, {tree_, nullptr}, blobs_).value();
  }
  /// The same bytes in a data file, zeros as holes.
  FileContent of_data(const std::string& bytes) {
    Ino ino = upper_->allocate_ino();
    auto file = upper_->create_data(ino).value();
    for (std::size_t at = 0; at < bytes.size(); at += 4096) {
      std::string_view unit = std::string_view(bytes).substr(at, 4096);
      if (unit.find_first_not_of('\0') == std::string_view::npos) continue;
      EXPECT_TRUE(pwrite_full(file->get(), as_bytes(unit), at));
    }
    tree::Node node;
    node.content = ContentKind::kData;
    node.size = bytes.size();
    return FileContent::of_node(ino, node, {tree_, upper_.get()}, blobs_).value();
  }
  static std::string written(const FileContent& content, const std::vector<DataRun>& runs) {
    std::string bytes;
    EXPECT_TRUE(content.write(runs, [&](std::string_view piece) -> Result<void> {
      bytes += piece;
      return {};
    }));
    return bytes;
  }
  std::vector<DataRun> runs_of(const std::string& bytes) { return of_object(bytes).find_runs().value(); }

  tree::MemoryTree tree_;
  tree::MemoryBlobs blobs_;
  std::unique_ptr<tree::UpperLayer> upper_ = upper::make_memory_upper();
};

std::string zeros_with(std::uint64_t size, std::vector<DataRun> data) {
  std::string bytes(size, '\0');
  for (const auto& run : data) bytes.replace(run.offset, run.length, std::string(run.length, 'x'));
  return bytes;
}

TEST_F(FileContentTest, AnObjectThatIsDamagedIsNoContent) {
  tree::Node node;
  node.content = ContentKind::kObject;
  node.object = blobs_.put(std::string(5000, 'a')).value();
  node.size = 5000;
  auto blob = blobs_.open(node.object);
  ASSERT_TRUE(blob);
  ASSERT_TRUE(pwrite_full(blob->file->get(), as_bytes("b"), blob->offset + 4000));
  auto of_tree = FileContent::of_node(Ino{2}, node, {tree_, nullptr}, blobs_);
  ASSERT_FALSE(of_tree);
  EXPECT_EQ(of_tree.error().kind, ErrorKind::kCorrupt);
  // What an upper lets show through of it, too: a commit would give it a name of its own.
  Ino ino = upper_->allocate_ino();
  ASSERT_TRUE(upper_->create_data(ino));
  node.content = ContentKind::kData;
  node.base_size = 5000;
  EXPECT_EQ(FileContent::of_node(ino, node, {tree_, upper_.get()}, blobs_).error().kind, ErrorKind::kCorrupt);
}

/// Counts how often an object is opened.
class CountingBlobs final : public tree::BlobSource {
 public:
  explicit CountingBlobs(const tree::BlobSource& below) : below_(below) {}
  Result<tree::Blob> open(const Digest& digest) const override {
    ++opened;
    return below_.open(digest);
  }
  Result<void> verify(const Digest& digest) const override { return below_.verify(digest); }
  mutable int opened = 0;

 private:
  const tree::BlobSource& below_;
};

// A database of an image that was changed in many places: each descriptor would count.
TEST_F(FileContentTest, AnObjectIsOpenedOnceForAllItsParts) {
  constexpr std::uint64_t kParts = 500;
  const std::string below(2 * kParts * 4096, 'b');
  const Ino ino = upper_->allocate_ino();
  const auto file = upper_->create_data(ino).value();
  tree::Node node;
  node.content = ContentKind::kData;
  node.object = blobs_.put(below).value();
  node.size = node.base_size = below.size();
  tree::ChangeSet set{{tree::PutNode{ino, node}}};
  std::string expected = below;
  for (std::uint64_t part = 0; part < kParts; ++part) {
    const std::uint64_t at = 2 * part * 4096;
    ASSERT_TRUE(pwrite_full(file->get(), as_bytes(std::string(4096, 'a')), at));
    set.changes.push_back(tree::AddExtent{ino, at, 4096});
    expected.replace(at, 4096, 4096, 'a');
  }
  ASSERT_TRUE(upper_->apply(set));
  const CountingBlobs counting(blobs_);
  const auto content = FileContent::of_node(ino, node, {tree_, upper_.get()}, counting);
  ASSERT_TRUE(content) << content.error().message();
  EXPECT_EQ(counting.opened, 1);
  EXPECT_EQ(written(*content, {}), expected);
}

TEST_F(FileContentTest, SmallFilesAreWhole) {
  EXPECT_THAT(runs_of(std::string(kMiB - 1, '\0')), IsEmpty());
  EXPECT_THAT(runs_of(""), IsEmpty());
}

TEST_F(FileContentTest, ZerosAreOneHole) {
  EXPECT_THAT(runs_of(std::string(kMiB, '\0')), ElementsAre(DataRun{kMiB, 0}));
  EXPECT_THAT(runs_of(std::string(kMiB + 5, '\0')), ElementsAre(DataRun{kMiB + 5, 0}));
}

TEST_F(FileContentTest, RunsAreWholeUnits) {
  EXPECT_THAT(runs_of(zeros_with(kMiB, {{500000, 1}})), ElementsAre(DataRun{499712, 4096}));
  EXPECT_THAT(runs_of(zeros_with(kMiB + 5, {{kMiB + 4, 1}})), ElementsAre(DataRun{kMiB, 5}));
}

TEST_F(FileContentTest, HolesUnder64KiBAreData) {
  EXPECT_THAT(runs_of(zeros_with(kMiB, {{0, 1}, {4096 + 61440, 1}})), ElementsAre(DataRun{0, 69632}));
  EXPECT_THAT(runs_of(zeros_with(kMiB, {{0, 1}, {4096 + 65536, 1}})),
              ElementsAre(DataRun{0, 4096}, DataRun{69632, 4096}));
  EXPECT_THAT(runs_of(zeros_with(kMiB, {{61440, 1}})), ElementsAre(DataRun{0, 65536}));
  EXPECT_THAT(runs_of(zeros_with(kMiB, {{kMiB - 65536, 1}})), ElementsAre(DataRun{kMiB - 65536, 65536}));
}

TEST_F(FileContentTest, HalfTheFileMustBeHoles) {
  EXPECT_THAT(runs_of(zeros_with(kMiB, {{0, kMiB / 2}})), ElementsAre(DataRun{0, kMiB / 2}));
  EXPECT_THAT(runs_of(zeros_with(kMiB, {{0, kMiB / 2 + 1}})), IsEmpty());
}

TEST_F(FileContentTest, RunsDependOnTheBytesOnly) {
  std::mt19937 random(1);
  for (int round = 0; round < 20; ++round) {
    std::uint64_t size = kMiB + random() % (4 * kMiB);
    std::string bytes(size, '\0');
    for (unsigned i = random() % 6; i > 0; --i) {
      std::uint64_t offset = random() % size;
      std::uint64_t length = std::min<std::uint64_t>(size - offset, random() % 200000);
      for (std::uint64_t at = offset; at < offset + length; at += 1 + random() % 300) bytes[at] = 'd';
    }
    FileContent object = of_object(bytes);
    FileContent data = of_data(bytes);
    std::vector<DataRun> runs = object.find_runs().value();
    ASSERT_EQ(data.find_runs().value(), runs) << round;
    EXPECT_EQ(written(object, {}), bytes);
    EXPECT_EQ(written(data, {}), bytes);
    if (runs.empty()) continue;

    std::string rebuilt(size, '\0');
    std::string stored = written(data, runs);
    std::uint64_t from = 0;
    std::uint64_t end = 0;
    for (const auto& run : runs) {
      EXPECT_EQ(run.offset % (run.length == 0 ? 1 : 4096), 0U);
      EXPECT_TRUE(run.length % 4096 == 0 || run.offset + run.length == size);
      EXPECT_TRUE(run.offset == 0 || run.offset - end >= 65536);
      rebuilt.replace(run.offset, run.length, stored.substr(from, run.length));
      from += run.length;
      end = run.offset + run.length;
    }
    EXPECT_EQ(from, stored.size());
    EXPECT_LE(from, size / 2);
    EXPECT_EQ(rebuilt, bytes);
  }
}

TEST_F(FileContentTest, ExtentsLieOverTheObjectAndZerosBehindIt) {
  std::string below(3 * kMiB, 'b');
  tree::Node node;
  node.content = ContentKind::kData;
  node.object = blobs_.put(below).value();
  node.base_size = 2 * kMiB;
  node.size = 8 * kMiB + 100;
  Ino ino = upper_->allocate_ino();
  auto file = upper_->create_data(ino).value();
  ASSERT_TRUE(pwrite_full(file->get(), as_bytes("OVER"), 10));
  ASSERT_TRUE(pwrite_full(file->get(), as_bytes("TAIL"), 8 * kMiB));
  ASSERT_TRUE(upper_->apply(
      {{tree::PutNode{ino, node}, tree::AddExtent{ino, 10, 4}, tree::AddExtent{ino, 8 * kMiB, 200}}, 0}));
  FileContent content = FileContent::of_node(ino, node, {tree_, upper_.get()}, blobs_).value();
  std::string wanted(node.size, '\0');
  wanted.replace(0, 2 * kMiB, below.substr(0, 2 * kMiB));
  wanted.replace(10, 4, "OVER");
  wanted.replace(8 * kMiB, 4, "TAIL");
  EXPECT_EQ(content.size(), node.size);
  EXPECT_EQ(written(content, {}), wanted);
  EXPECT_THAT(content.find_runs().value(), ElementsAre(DataRun{0, 2 * kMiB}, DataRun{8 * kMiB, 100}));
}

TEST_F(FileContentTest, ObjectShorterThanItsFileIsDamage) {
  tree::Node node;
  node.content = ContentKind::kObject;
  node.object = blobs_.put("short").value();
  node.size = 6;
  auto content = FileContent::of_node(Ino{2}, node, {tree_, nullptr}, blobs_);
  ASSERT_FALSE(content);
  EXPECT_EQ(content.error().kind, ErrorKind::kCorrupt);
}

}  // namespace
}  // namespace layerfs::image
