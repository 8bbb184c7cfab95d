// SPDX-License-Identifier: Apache-2.0
// Samples of every version of the delta's files that was released (tests/data/good/delta-VERSION of the log):
// they open, and say what they said then.
//
// delta-3 and delta-4 are the delta of a process that died: a checkpoint, then changes, and a flush that put
// the bytes of two files into the log. Made by upper_test --gtest_also_run_disabled_tests
// --gtest_filter='*WritesASample' with the place in $LAYERFS_SAMPLE; do so for a new version before it is
// changed again.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "fs/base/bytes.h"
#include "fs/base/sys_file.h"
#include "fs/upper/delta_open.h"
#include "tests/base/scratch_dir.h"
#include "tests/upper/delta_model.h"

namespace layerfs::upper {
namespace {

using tree::Ino;

using test::boot_of;

constexpr Ino kSmall{64};   // in a shared data file
constexpr Ino kLarge{200};  // has a data file of its own
constexpr std::string_view kSmallText = "the small file";
constexpr std::string_view kLargeText = "the large file";

/// What dump.txt has.
std::string listing(const tree::UpperLayer& upper) {
  std::string text;
  for (const auto& [what, is] : test::dump(upper)) text += what + " = " + is + "\n";
  return text;
}

std::string text_of(const tree::UpperLayer& upper, Ino ino) {
  const auto node = upper.find_node(ino);
  const auto place = test::find_place(upper, ino);
  if (!node || !place) return "(nothing)";
  std::string text(node->size, '\0');
  const auto count = pread_full(place->fd(), std::as_writable_bytes(std::span(text)), place->offset);
  text.resize(count.value_or(0));
  return text;
}

/// Its text and size become `text`, which the next flush may put into the log.
Result<void> write_text(tree::UpperLayer& upper, Ino ino, const tree::DataPlace& place,
                        tree::ContentKind content, std::string_view text) {
  LAYERFS_TRY(pwrite_full(place.fd(), as_bytes(text), place.offset));
  tree::Node node;
  node.content = content;
  node.nlink = 1;
  node.size = text.size();
  node.data_reaches = true;
  tree::ChangeSet set;
  set.request = to_number(ino) * 2;
  set.changes.push_back(tree::PutNode{ino, node});
  set.written = {ino, 0, text.size()};
  return upper.apply(set);
}

class DeltaFormatTest : public ::testing::TestWithParam<std::uint8_t> {};

TEST_P(DeltaFormatTest, ASampleOfVersion1SaysWhatItSaid) {
  const std::string samples = LAYERFS_TEST_DATA "/good/delta-1";
  const ScratchDir dir;
  const std::string path = dir / "delta";
  ASSERT_TRUE(make_dir(path, 0700));
  for (const char* name : {"/checkpoint", "/redo.log"})
    ASSERT_TRUE(write_file_atomic(path + name, *read_file(samples + name), 0600));
  DeltaTuning tuning;
  // The sample's own boot: a process died; another: the power failed. Its last record is a mark.
  tuning.boot_id = [] { return boot_of(GetParam()); };
  for (int life = 0; life < 2; ++life) {
    const auto upper = open_delta_with(path, {}, tuning);
    ASSERT_TRUE(upper) << upper.error().message();
    EXPECT_EQ(listing(**upper), *read_file(samples + "/dump.txt"));
    // From now on it may get what version 1 did not have, so it must not be taken for one any more.
    for (const char* name : {"/checkpoint", "/redo.log"}) {
      const auto bytes = read_file(path + name);
      ASSERT_TRUE(bytes && bytes->size() > 12);
      EXPECT_EQ(load_le<std::uint32_t>(bytes->data() + 8), 4U) << name;
    }
  }
}

TEST_P(DeltaFormatTest, SamplesOfLaterVersionsSayWhatTheySaid) {
  // The second of version 4 has a checkpoint that was compacted: it begins behind a hole.
  for (const char* version : {"3", "4", "4-compacted"}) {
    SCOPED_TRACE(version);
    const std::string samples = std::string(LAYERFS_TEST_DATA "/good/delta-") + version;
    ASSERT_EQ(read_file(samples + "/redo.log")->substr(8, 1),
              std::string(1, static_cast<char>(*version - '0')));
    const ScratchDir dir;
    const std::string path = dir / "delta";
    std::filesystem::copy(samples, path, std::filesystem::copy_options::recursive);
    DeltaTuning tuning;
    tuning.boot_id = [] { return boot_of(GetParam()); };
    if (GetParam() != 7) {
      // The power failed: of the data that the log has nothing had reached the files.
      for (const auto& file : std::filesystem::recursive_directory_iterator(path + "/data"))
        if (file.is_regular_file()) std::filesystem::resize_file(file.path(), 0);
    }
    for (int life = 0; life < 2; ++life) {
      const auto upper = open_delta_with(path, {}, tuning);
      ASSERT_TRUE(upper) << upper.error().message();
      EXPECT_EQ(listing(**upper), *read_file(samples + "/dump.txt"));
      EXPECT_EQ(text_of(**upper, kSmall), kSmallText);
      EXPECT_EQ(text_of(**upper, kLarge), kLargeText);
      EXPECT_EQ((*upper)->was_applied(to_number(kLarge) * 2), life == 0);
    }
  }
}

TEST(DeltaFormat, DISABLED_WritesASample) {
  const char* place = std::getenv("LAYERFS_SAMPLE");
  ASSERT_NE(place, nullptr);
  const bool is_compacted = std::string_view(place).ends_with("-compacted");
  const ScratchDir dir;
  DeltaTuning tuning;
  tuning.segment_size = kMinSegmentSize;
  tuning.flush_period = std::chrono::hours(1);
  tuning.boot_id = [] { return boot_of(7); };
  tuning.writes_whole = !is_compacted;
  if (is_compacted) tuning.checkpoint_slack = 500;
  const auto upper = open_delta_with(dir / "delta", {}, tuning);
  ASSERT_TRUE(upper);
  test::ChangeMaker maker(3, 500);
  for (std::uint64_t k = 1; k <= 12; ++k) ASSERT_TRUE((*upper)->apply(maker.next(k)));
  const auto small = (*upper)->create_shared(kSmall);
  const auto large = (*upper)->create_data(kLarge);
  ASSERT_TRUE(small && large);
  ASSERT_TRUE(write_text(**upper, kSmall, *small, tree::ContentKind::kShared, "before"));
  ASSERT_TRUE(write_text(**upper, kLarge, {*large}, tree::ContentKind::kData, "before"));
  ASSERT_TRUE((*upper)->sync());
  while (is_compacted && load_le<std::uint64_t>(read_file(dir / "delta/checkpoint")->data() + 12) == 32) {
    ASSERT_TRUE((*upper)->apply(maker.next(12)));
    ASSERT_TRUE((*upper)->sync());
  }
  // These do not tell what they write, so their flush is that of the files.
  for (std::uint64_t k = 13; k <= 20; ++k) ASSERT_TRUE((*upper)->apply(maker.next(k)));
  ASSERT_TRUE((*upper)->sync_node(kLarge, tree::FsyncKind::kAll));
  ASSERT_TRUE(write_text(**upper, kSmall, *small, tree::ContentKind::kShared, kSmallText));
  ASSERT_TRUE(write_text(**upper, kLarge, {*large}, tree::ContentKind::kData, kLargeText));
  ASSERT_TRUE((*upper)->sync_node(kLarge, tree::FsyncKind::kAll));
  std::filesystem::copy(dir / "delta", place, std::filesystem::copy_options::recursive);
  std::filesystem::remove(std::string(place) + "/lock");
  ASSERT_TRUE(write_file_atomic(std::string(place) + "/dump.txt", listing(**upper), 0644));
}

INSTANTIATE_TEST_SUITE_P(Boots, DeltaFormatTest, ::testing::Values(7, 8));

}  // namespace
}  // namespace layerfs::upper
