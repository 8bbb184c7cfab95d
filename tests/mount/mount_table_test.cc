// SPDX-License-Identifier: Apache-2.0
#include "fs/mount/mount_table.h"

#include <gtest/gtest.h>

namespace layerfs::mount {
namespace {

TEST(MountTable, OursAreKnownByTheirType) {
  auto entries = parse_mount_info(
      "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
      "40 22 0:35 / /mnt/a rw,nosuid,nodev - fuse.layerfs layerfs:0123abc rw,user_id=0,group_id=0\n"
      "41 22 0:36 / /mnt/b ro,noatime master:1 - fuse.layerfs odd ro\n"
      "42 22 0:37 / /mnt/other rw - fuse.sshfs layerfs:1 rw\n");
  ASSERT_EQ(entries.size(), 4U);
  EXPECT_FALSE(is_ours(entries[0]));
  EXPECT_TRUE(is_ours(entries[1]));
  EXPECT_TRUE(is_ours(entries[2]));
  EXPECT_FALSE(is_ours(entries[3]));
  EXPECT_EQ(source_name(entries[1]), "0123abc");
  EXPECT_EQ(source_name(entries[2]), "odd");
}

TEST(MountTable, ReadsTheRealOne) {
  auto entries = list_mounts();
  ASSERT_TRUE(entries) << entries.error().message();
  for (const auto& entry : *entries) EXPECT_TRUE(is_ours(entry));
  auto nothing = find_mount("/proc");
  ASSERT_TRUE(nothing) << nothing.error().message();
  EXPECT_FALSE(*nothing);
  EXPECT_FALSE(list_mounts(0));  // no process has this number
}

}  // namespace
}  // namespace layerfs::mount
