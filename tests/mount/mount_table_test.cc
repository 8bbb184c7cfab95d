// SPDX-License-Identifier: Apache-2.0
#include "fs/mount/mount_table.h"

#include <gtest/gtest.h>

namespace layerfs::mount {
namespace {

constexpr std::string_view kTable =
    "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
    "40 22 0:35 / /mnt/a rw,nosuid,nodev - fuse.layerfs layerfs:0123abc rw,user_id=0,group_id=0\n"
    "41 22 0:36 / /mnt/with\\040blank\\134 ro,noatime master:1 propagate_from:2 - fuse.layerfs layerfs:77 "
    "ro\n"
    "42 22 0:37 / /mnt/other rw - fuse.sshfs host: rw\n";

TEST(MountTable, FindsOurMountsOnly) {
  auto entries = parse_mount_table(kTable);
  ASSERT_EQ(entries.size(), 2U);
  EXPECT_EQ(entries[0].path, "/mnt/a");
  EXPECT_EQ(entries[0].source, "layerfs:0123abc");
  EXPECT_EQ(entries[0].name(), "0123abc");
  EXPECT_EQ(entries[0].options, "rw,nosuid,nodev");
  EXPECT_EQ(entries[0].device_minor, 35U);
}

TEST(MountTable, OptionalFieldsAndEscapesAreUnderstood) {
  auto entries = parse_mount_table(kTable);
  ASSERT_EQ(entries.size(), 2U);
  EXPECT_EQ(entries[1].path, "/mnt/with blank\\");
  EXPECT_EQ(entries[1].name(), "77");
}

TEST(MountTable, LinesThatAreNotUnderstoodArePassedOver) {
  EXPECT_TRUE(parse_mount_table("").empty());
  EXPECT_TRUE(parse_mount_table("\n\n").empty());
  EXPECT_TRUE(parse_mount_table("1 2 x:y / /mnt rw - fuse.layerfs layerfs:1 rw\n").empty());
  EXPECT_TRUE(parse_mount_table("1 2 0:3 / /mnt rw shared:1").empty());
  EXPECT_TRUE(parse_mount_table("- - - - - -").empty());
}

TEST(MountTable, ReadsTheRealOne) {
  auto entries = list_mounts();
  ASSERT_TRUE(entries) << entries.error().message();
  auto nothing = find_mount("/proc");
  ASSERT_TRUE(nothing) << nothing.error().message();
  EXPECT_FALSE(*nothing);
}

}  // namespace
}  // namespace layerfs::mount
