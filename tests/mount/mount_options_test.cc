// SPDX-License-Identifier: Apache-2.0
#include "fs/mount/mount_options.h"

#include <gtest/gtest.h>

namespace layerfs::mount {
namespace {

TEST(MountOptions, LaterOnesWinAndEmptyOnesArePassedOver) {
  auto flags = apply_mount_options({}, "ro,,suid,dev,noatime,rw,allow_other,");
  ASSERT_TRUE(flags);
  EXPECT_FALSE(flags->read_only);
  EXPECT_TRUE(flags->suid && flags->dev && flags->noatime && flags->allow_other);
  flags = apply_mount_options(*flags, "nosuid,nodev,atime,ro,volatile");
  ASSERT_TRUE(flags);
  EXPECT_TRUE(flags->read_only && flags->is_volatile);
  EXPECT_FALSE(flags->suid || flags->dev || flags->noatime);
}

TEST(MountOptions, UnknownOnesAreNamed) {
  auto flags = apply_mount_options({}, "ro,sync");
  ASSERT_FALSE(flags);
  EXPECT_EQ(flags.error().kind, ErrorKind::kInvalid);
  EXPECT_NE(flags.error().message().find("'sync'"), std::string::npos) << flags.error().message();
}

TEST(IdMap, CountsEveryRange) {
  EXPECT_EQ(mapped_ids("         0          0 4294967295\n"), 4294967295ULL);
  EXPECT_EQ(mapped_ids("0 1000 1\n1 100000 65536\n"), 65537ULL);
  EXPECT_EQ(mapped_ids(""), 0ULL);
  EXPECT_EQ(mapped_ids("nonsense"), 0ULL);
}

TEST(IdView, FitsWhoeverMounts) {
  auto root = choose_id_view(0, 0, 4294967295ULL);
  EXPECT_FALSE(root.squash_root || root.squash_all);
  auto single = choose_id_view(0, 0, 1);
  EXPECT_TRUE(single.squash_all);
  auto user = choose_id_view(1000, 100, 4294967295ULL);
  EXPECT_TRUE(user.squash_root);
  EXPECT_FALSE(user.squash_all);
  EXPECT_EQ(user.uid, 1000U);
  EXPECT_EQ(user.gid, 100U);
}

}  // namespace
}  // namespace layerfs::mount
