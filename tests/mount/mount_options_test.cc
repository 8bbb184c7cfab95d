// SPDX-License-Identifier: Apache-2.0
#include "fs/mount/mount_options.h"

#include <gtest/gtest.h>
#include <sys/mount.h>

namespace layerfs::mount {
namespace {

TEST(MountOptions, LaterOnesWinAndEmptyOnesArePassedOver) {
  auto flags = apply_mount_options({}, "ro,,suid,dev,noatime,rw,allow_other,");
  ASSERT_TRUE(flags);
  EXPECT_FALSE(flags->read_only);
  EXPECT_TRUE(flags->suid && flags->dev && flags->allow_other);
  EXPECT_EQ(flags->mount_flags, MS_NOATIME);
  flags = apply_mount_options(*flags, "nosuid,nodev,relatime,ro,volatile");
  ASSERT_TRUE(flags);
  EXPECT_TRUE(flags->read_only && flags->is_volatile);
  EXPECT_FALSE(flags->suid || flags->dev);
  EXPECT_EQ(flags->mount_flags, MS_RELATIME);
}

TEST(MountOptions, TheKernelsAreFlagsOfMount) {
  auto flags = apply_mount_options({}, "noexec,nodiratime,sync,dirsync,strictatime,nosymfollow");
  ASSERT_TRUE(flags);
  EXPECT_EQ(flags->mount_flags,
            MS_NOEXEC | MS_NODIRATIME | MS_SYNCHRONOUS | MS_DIRSYNC | MS_STRICTATIME | 256U);
  flags = apply_mount_options(*flags, "exec,diratime,async,symfollow,noatime");
  ASSERT_TRUE(flags);
  EXPECT_EQ(flags->mount_flags, MS_DIRSYNC | MS_NOATIME);
  flags = apply_mount_options(*flags, "relatime,lazytime");
  ASSERT_TRUE(flags);
  EXPECT_EQ(flags->mount_flags, MS_DIRSYNC | MS_RELATIME | MS_LAZYTIME);
  flags = apply_mount_options(*flags, "norelatime,nolazytime");
  ASSERT_TRUE(flags);
  EXPECT_EQ(flags->mount_flags, MS_DIRSYNC);
  flags = apply_mount_options(*flags, "strictatime,nostrictatime");
  ASSERT_TRUE(flags);
  EXPECT_EQ(flags->mount_flags, MS_DIRSYNC);
}

TEST(MountOptions, WhatFstabSaysToOthersChangesNothing) {
  for (const char* list :
       {"defaults", "noauto,nofail,_netdev,user,users,x-systemd.automount", "fsname=name,subtype=type",
        "group,nogroup,owner,noowner,nousers,comment=of,X-mount.mkdir,silent,loud,nomand,noiversion"}) {
    auto flags = apply_mount_options({.suid = true, .mount_flags = MS_NOEXEC}, list);
    ASSERT_TRUE(flags) << list;
    EXPECT_EQ(*flags, (MountFlags{.suid = true, .mount_flags = MS_NOEXEC})) << list;
  }
}

TEST(MountOptions, UnknownOnesAndWhatIsNotDoneAreNamed) {
  for (const char* name : {"flush", "atime", "fsname", "comment", "mand", "lowerdir=a"}) {
    auto flags = apply_mount_options({}, std::string("ro,") + name);
    ASSERT_FALSE(flags) << name;
    EXPECT_EQ(flags.error().kind, ErrorKind::kInvalid);
    EXPECT_NE(flags.error().message().find(std::string("'") + name + "'"), std::string::npos)
        << flags.error().message();
  }
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
