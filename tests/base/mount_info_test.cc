// SPDX-License-Identifier: Apache-2.0
#include "fs/base/mount_info.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fs/base/sys_file.h"

namespace layerfs {
namespace {

TEST(MountInfo, EachFieldIsTaken) {
  auto entries =
      parse_mount_info("36 35 98:7 /sub /mnt rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n");
  ASSERT_EQ(entries.size(), 1U);
  EXPECT_EQ(entries[0], (MountEntry{36, 35, 98, 7, "/sub", "/mnt", "rw,noatime", "ext3", "/dev/root",
                                    "rw,errors=continue"}));
}

TEST(MountInfo, OptionalFieldsAreAnyNumber) {
  for (const char* optional : {"", "shared:1 ", "shared:1 master:2 propagate_from:3 unbindable "}) {
    auto entries =
        parse_mount_info(std::string("1 2 0:3 / /mnt rw ") + optional + "- fuse.layerfs layerfs:7 ro,x");
    ASSERT_EQ(entries.size(), 1U) << optional;
    EXPECT_EQ(entries[0].options, "rw");
    EXPECT_EQ(entries[0].type, "fuse.layerfs");
    EXPECT_EQ(entries[0].source, "layerfs:7");
    EXPECT_EQ(entries[0].super_options, "ro,x");
  }
}

TEST(MountInfo, EscapesAreUndone) {
  auto entries = parse_mount_info(
      "1 2 0:3 /a\\011b /with\\040blank\\134and\\012line rw - fuse.x\\040y so\\043urce rw\n"
      "1 2 0:3 / /odd\\04\\9999\\ rw - tmpfs \\1 rw\n");
  ASSERT_EQ(entries.size(), 2U);
  EXPECT_EQ(entries[0].root, "/a\tb");
  EXPECT_EQ(entries[0].path, "/with blank\\and\nline");
  EXPECT_EQ(entries[0].type, "fuse.x y");
  EXPECT_EQ(entries[0].source, "so#urce");
  // What is no escape stays as it is.
  EXPECT_EQ(entries[1].path, "/odd\\04\\9999\\");
  EXPECT_EQ(entries[1].source, "\\1");
}

TEST(MountInfo, AHyphenMayBeAPathOrASource) {
  auto entries = parse_mount_info("1 2 0:3 / - - - - - rw\n");
  ASSERT_EQ(entries.size(), 1U);
  EXPECT_EQ(entries[0].path, "-");
  EXPECT_EQ(entries[0].options, "-");
  EXPECT_EQ(entries[0].type, "-");
}

TEST(MountInfo, ASourceMayBeEmpty) {
  auto entries = parse_mount_info("1 2 0:3 / /mnt rw - tmpfs  rw,size=4k\n");
  ASSERT_EQ(entries.size(), 1U);
  EXPECT_EQ(entries[0].source, "");
  EXPECT_EQ(entries[0].super_options, "rw,size=4k");
}

TEST(MountInfo, LinesOfAnotherFormArePassedOver) {
  for (const char* line :
       {"", "\n\n", " - resctrl ", "- - - - - -", "1 2 x:y / /mnt rw - tmpfs a rw",
        "x 2 0:3 / /mnt rw - tmpfs a rw", "1 y 0:3 / /mnt rw - tmpfs a rw", "1 2 03 / /mnt rw - tmpfs a rw",
        "1 2 0:3 / /mnt rw shared:1", "1 2 0:3 / /mnt rw -", "1 2 0:3 / /mnt rw - ",
        "1 2 0:99999999999 / /mnt rw - tmpfs a rw"}) {
    EXPECT_TRUE(parse_mount_info(line).empty()) << line;
    // The lines around it are read all the same.
    auto entries = parse_mount_info("1 2 0:3 / /a rw - tmpfs a rw\n" + std::string(line) +
                                    "\n1 2 0:3 / /b rw - tmpfs a rw\n");
    ASSERT_EQ(entries.size(), 2U) << line;
    EXPECT_EQ(entries[1].path, "/b");
  }
}

TEST(MountInfo, ReadsThisMachines) {
  auto text = read_file("/proc/self/mountinfo");
  ASSERT_TRUE(text) << text.error().message();
  auto entries = parse_mount_info(*text);
  EXPECT_EQ(entries.size(), static_cast<std::size_t>(std::ranges::count(*text, '\n')));
  EXPECT_THAT(entries, testing::Contains(testing::Field(&MountEntry::path, "/")));
}

}  // namespace
}  // namespace layerfs
