// SPDX-License-Identifier: Apache-2.0
// Samples of every version of the delta's files that was released (tests/data/good/delta-VERSION): they open,
// and say what they said then.
#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "fs/base/bytes.h"
#include "fs/base/sys_file.h"
#include "fs/upper/delta_open.h"
#include "tests/base/scratch_dir.h"
#include "tests/upper/delta_model.h"

namespace layerfs::upper {
namespace {

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
  tuning.boot_id = [] {
    BootId id;
    id.fill(GetParam());
    return id;
  };
  for (int life = 0; life < 2; ++life) {
    const auto upper = open_delta_with(path, {}, tuning);
    ASSERT_TRUE(upper) << upper.error().message();
    std::string text;
    for (const auto& [what, is] : test::dump(**upper)) text += what + " = " + is + "\n";
    EXPECT_EQ(text, *read_file(samples + "/dump.txt"));
    // From now on it may get what version 1 did not have, so it must not be taken for one any more.
    for (const char* name : {"/checkpoint", "/redo.log"}) {
      const auto bytes = read_file(path + name);
      ASSERT_TRUE(bytes && bytes->size() > 12);
      EXPECT_EQ(load_le<std::uint32_t>(bytes->data() + 8), name == std::string_view("/redo.log") ? 3U : 2U)
          << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Boots, DeltaFormatTest, ::testing::Values(7, 8));

}  // namespace
}  // namespace layerfs::upper
