// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/convert.h"

#include <gtest/gtest.h>
#include <linux/fuse.h>
#include <sys/sysmacros.h>

#include "fs/base/bytes.h"

namespace layerfs::fuse {
namespace {

using unionfs::Gid;
using unionfs::Ino;
using unionfs::Uid;

constexpr IdView kPlain{};
constexpr IdView kUser{.squash_root = true, .squash_all = false, .uid = 1000, .gid = 100};
constexpr IdView kSingle{.squash_root = false, .squash_all = true, .uid = 0, .gid = 0};

TEST(IdView, PlainViewChangesNothing) {
  EXPECT_EQ(shown_uid(kPlain, Uid{33}), 33U);
  EXPECT_EQ(stored_gid(kPlain, 33), Gid{33});
}

TEST(IdView, AnUserSeesRootAsItselfAndStoresRoot) {
  EXPECT_EQ(shown_uid(kUser, Uid{0}), 1000U);
  EXPECT_EQ(shown_gid(kUser, Gid{0}), 100U);
  EXPECT_EQ(stored_uid(kUser, 1000), Uid{0});
  EXPECT_EQ(stored_gid(kUser, 100), Gid{0});
  EXPECT_EQ(shown_uid(kUser, Uid{33}), 33U);
  EXPECT_EQ(stored_uid(kUser, 33), Uid{33});
}

TEST(IdView, UserAndGroupAreMappedEachByItsOwn) {
  EXPECT_EQ(stored_gid(kUser, 1000), Gid{1000});
  EXPECT_EQ(stored_uid(kUser, 100), Uid{100});
}

TEST(IdView, ASingleIdIsAllThereIs) {
  EXPECT_EQ(shown_uid(kSingle, Uid{33}), 0U);
  EXPECT_EQ(stored_uid(kSingle, 0), Uid{0});
}

TEST(ToStat, CarriesEveryAttribute) {
  unionfs::Node node;
  node.kind = unionfs::NodeKind::kCharDevice;
  node.mode = 06640;
  node.uid = Uid{7};
  node.gid = Gid{8};
  node.nlink = 3;
  node.size = 513;
  node.rdev = makedev(240, 1048575);
  node.mtime = {.seconds = -5, .nanoseconds = 999'999'999};
  struct stat attributes = to_stat(kPlain, Ino{42}, node, 16);
  EXPECT_EQ(attributes.st_ino, 42U);
  EXPECT_EQ(attributes.st_mode, static_cast<mode_t>(S_IFCHR | 06640));
  EXPECT_EQ(attributes.st_uid, 7U);
  EXPECT_EQ(attributes.st_gid, 8U);
  EXPECT_EQ(attributes.st_nlink, 3U);
  EXPECT_EQ(attributes.st_size, 513);
  EXPECT_EQ(attributes.st_blocks, 16);
  EXPECT_EQ(attributes.st_rdev, makedev(240, 1048575));
  EXPECT_EQ(attributes.st_mtim.tv_sec, -5);
  EXPECT_EQ(attributes.st_mtim.tv_nsec, 999'999'999);
}

TEST(ToSetAttr, TakesOnlyWhatIsValid) {
  struct stat attributes{};
  attributes.st_mode = S_IFREG | 04755;
  attributes.st_uid = 1000;
  attributes.st_size = 9;
  attributes.st_mtim = {.tv_sec = 11, .tv_nsec = 12};
  auto changes = to_set_attr(kUser, attributes, FATTR_MODE | FATTR_UID | FATTR_MTIME);
  EXPECT_EQ(changes.mode, 04755);
  EXPECT_EQ(changes.uid, Uid{0});
  EXPECT_EQ(changes.mtime, (unionfs::Time{.seconds = 11, .nanoseconds = 12}));
  EXPECT_FALSE(changes.gid || changes.size || changes.atime || changes.ctime);
  EXPECT_FALSE(changes.atime_now || changes.mtime_now || changes.kill_suid_sgid);
}

TEST(ToSetAttr, NowWinsOverATimeSentWithIt) {
  struct stat attributes{};
  auto changes =
      to_set_attr(kPlain, attributes, FATTR_ATIME | FATTR_ATIME_NOW | FATTR_MTIME | FATTR_MTIME_NOW);
  EXPECT_TRUE(changes.atime_now && changes.mtime_now);
  EXPECT_FALSE(changes.atime || changes.mtime);
}

TEST(ToSetAttr, SaysWhenSetIdBitsAreToGo) {
  struct stat attributes{};
  auto changes = to_set_attr(kPlain, attributes, FATTR_SIZE | FATTR_KILL_SUIDGID | FATTR_FH);
  EXPECT_EQ(changes.size, 0U);
  EXPECT_TRUE(changes.kill_suid_sgid);
}

std::string acl_entry(std::uint16_t tag, std::uint32_t id) {
  std::string bytes;
  append_le(bytes, tag);
  append_le(bytes, std::uint16_t{7});
  append_le(bytes, id);
  return bytes;
}

std::string acl(std::uint32_t named_user, std::uint32_t named_group) {
  std::string bytes;
  append_le(bytes, std::uint32_t{2});
  // ACL_USER_OBJ, ACL_USER, ACL_GROUP, ACL_OTHER
  return bytes + acl_entry(1, 0) + acl_entry(2, named_user) + acl_entry(8, named_group) + acl_entry(0x20, 0);
}

TEST(Acl, NamedEntriesAreMappedAndOthersAreNot) {
  EXPECT_EQ(shown_acl(kUser, acl(0, 0)), acl(1000, 100));
  EXPECT_EQ(stored_acl(kUser, acl(1000, 1000)), acl(0, 1000));
  EXPECT_EQ(stored_acl(kPlain, acl(1000, 100)), acl(1000, 100));
}

TEST(Acl, BytesThatAreNoAclComeBackUnchanged) {
  for (std::string_view bytes : {"", "abc", "\x02\0\0\0\x02\0\x07"})
    EXPECT_EQ(stored_acl(kUser, bytes), bytes);
}

}  // namespace
}  // namespace layerfs::fuse
