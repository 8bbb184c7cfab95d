// SPDX-License-Identifier: Apache-2.0
// Modes, owners, times, ACLs and xattrs, and the file system as a whole: read-only, frozen; one sentence
// each.
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <thread>

#include "fs/union/acl.h"
#include "tests/union/union_fixture.h"

namespace layerfs::unionfs {
namespace {

class Attributes : public UnionTest {
 protected:
  Attributes() {
    dir_ = lower_dir(tree::kRootIno, "dir");
    file_ = lower_file(tree::kRootIno, "file", "text",
                       {{"security.capability", "cap"}, {"user.a", "1"}, {"user.b", "2"}});
    mount();
  }
  static std::string acl(unsigned owner, unsigned group, unsigned other) {
    return to_bytes({{AclTag::kUserObj, static_cast<std::uint16_t>(owner), UINT32_MAX},
                     {AclTag::kGroupObj, static_cast<std::uint16_t>(group), UINT32_MAX},
                     {AclTag::kOther, static_cast<std::uint16_t>(other), UINT32_MAX}});
  }
  static std::string acl_with_user(unsigned owner, unsigned user, unsigned group, unsigned mask,
                                   unsigned other) {
    auto bits = [](unsigned value) { return static_cast<std::uint16_t>(value); };
    return to_bytes({{AclTag::kUserObj, bits(owner), UINT32_MAX},
                     {AclTag::kUser, bits(user), 1000},
                     {AclTag::kGroupObj, bits(group), UINT32_MAX},
                     {AclTag::kMask, bits(mask), UINT32_MAX},
                     {AclTag::kOther, bits(other), UINT32_MAX}});
  }
  int set_xattr(const std::string& path, std::string_view name, std::string_view value,
                SetXattrMode mode = SetXattrMode::kAny) {
    return code(fs().setxattr(ino(path), name, value, mode, {}));
  }
  std::string xattr(const std::string& path, std::string_view name) {
    auto value = fs().getxattr(ino(path), name);
    return value ? *value : "none: " + std::to_string(value.error().code);
  }
  std::string xattrs(const std::string& path) {
    std::string list = fs().listxattr(ino(path)).value();
    std::replace(list.begin(), list.end(), '\0', ' ');
    return list;
  }
  Ino dir_, file_;
};

TEST_F(Attributes, TheUmaskIsAppliedOnceAndNotToSymlinks) {
  ASSERT_EQ(make_file("f", 0666, {.umask = 022}), 0);
  ASSERT_EQ(make_dir("d", 0777, {.umask = 027}), 0);
  ASSERT_EQ(forgotten(fs().mknod(tree::kRootIno, "p", S_IFIFO | 0666, 0, {.umask = 077})), 0);
  EXPECT_EQ(node("f").mode, 0644);
  EXPECT_EQ(node("d").mode, 0750);
  EXPECT_EQ(node("p").mode, 0600);
}

TEST_F(Attributes, ADefaultAclTakesTheUmasksPlace) {
  ASSERT_EQ(set_xattr("dir", kAclDefault, acl_with_user(7, 7, 5, 7, 0)), 0);
  ASSERT_EQ(make_file("dir/f", 0666, {.umask = 077}), 0);
  EXPECT_EQ(node("dir/f").mode, 0660);
  EXPECT_EQ(xattr("dir/f", kAclAccess), acl_with_user(6, 7, 5, 6, 0));
  EXPECT_EQ(xattrs("dir/f"), "system.posix_acl_access ");
  ASSERT_EQ(make_dir("dir/d", 0777, {.umask = 077}), 0);
  EXPECT_EQ(node("dir/d").mode, 0770);
  EXPECT_EQ(xattr("dir/d", kAclDefault), acl_with_user(7, 7, 5, 7, 0));
  ASSERT_EQ(forgotten(fs().symlink(dir_, "l", "x", {})), 0);
  EXPECT_EQ(xattrs("dir/l"), "");
}

TEST_F(Attributes, ADefaultAclThatModeBitsCanSayLeavesNoAccessAcl) {
  ASSERT_EQ(set_xattr("dir", kAclDefault, acl(7, 5, 0)), 0);
  ASSERT_EQ(make_file("dir/f", 0666, {.umask = 077}), 0);
  EXPECT_EQ(node("dir/f").mode, 0640);
  EXPECT_EQ(xattrs("dir/f"), "");
}

TEST_F(Attributes, AnAccessAclSetsTheModeAndChmodSetsTheAcl) {
  ASSERT_EQ(set("file", {.mode = 04644}), 0);
  ASSERT_EQ(set_xattr("file", kAclAccess, acl_with_user(7, 6, 5, 4, 1)), 0);
  EXPECT_EQ(node("file").mode, 04741);
  ASSERT_EQ(set("file", {.mode = 0620}), 0);
  EXPECT_EQ(xattr("file", kAclAccess), acl_with_user(6, 6, 5, 2, 0));
  ASSERT_EQ(set_xattr("file", kAclAccess, acl(6, 4, 4)), 0);
  EXPECT_EQ(node("file").mode, 0644);
  EXPECT_EQ(xattr("file", kAclAccess), "none: " + std::to_string(ENODATA));
}

TEST_F(Attributes, AclsThatAreNoneAreRefused) {
  EXPECT_EQ(set_xattr("file", kAclAccess, "x"), EINVAL);
  EXPECT_EQ(set_xattr("file", kAclAccess, std::string("\1\0\0\0", 4)), EOPNOTSUPP);
  EXPECT_EQ(set_xattr("file", kAclAccess, acl(7, 5, 0).substr(0, 20)), EINVAL);
  std::string no_mask = acl_with_user(7, 7, 5, 7, 0);
  no_mask.erase(4 + 3 * 8, 8);
  EXPECT_EQ(set_xattr("dir", kAclDefault, no_mask), EINVAL);
  EXPECT_EQ(set_xattr("file", kAclDefault, acl(7, 5, 0)), EACCES);
}

TEST_F(Attributes, ASetgidDirectoryGivesItsGroupAndToDirectoriesTheBit) {
  ASSERT_EQ(set("dir", {.mode = 02775, .gid = Gid{50}}), 0);
  ASSERT_EQ(make_file("dir/f", 0644, {.uid = Uid{7}, .gid = Gid{8}}), 0);
  ASSERT_EQ(make_dir("dir/d", 0755, {.uid = Uid{7}, .gid = Gid{8}}), 0);
  EXPECT_EQ(to_number(node("dir/f").gid), 50U);
  EXPECT_EQ(node("dir/f").mode, 0644);
  EXPECT_EQ(node("dir/d").mode, 02755);
  EXPECT_EQ(to_number(node("dir/d").gid), 50U);
  EXPECT_EQ(to_number(node("dir/d").uid), 7U);
}

TEST_F(Attributes, WritesDropCapabilitiesAndSetIdBitsWhereAsked) {
  ASSERT_EQ(set("file", {.mode = 06755}), 0);
  ASSERT_EQ(write("file", 0, "x"), 0);
  EXPECT_EQ(node("file").mode, 06755);
  EXPECT_EQ(xattrs("file"), "user.a user.b ");
  ASSERT_EQ(write("file", 0, "x", {.kill_suid_sgid = true}), 0);
  EXPECT_EQ(node("file").mode, 0755);
  ASSERT_EQ(set("file", {.mode = 06745}), 0);  // S_ISGID without group execution is no set-gid
  ASSERT_EQ(set("file", {.size = 1, .kill_suid_sgid = true}), 0);
  EXPECT_EQ(node("file").mode, 02745);
}

// setattr_should_drop_sgid() of Linux 6.2.
TEST_F(Attributes, SetGidWithoutGroupExecutionStaysForMembersOfTheGroupOnly) {
  const Caller stranger{.uid = Uid{7}, .gid = Gid{7}, .kills_set_id = true};
  const Caller owner{.uid = Uid{5}, .gid = Gid{50}, .kills_set_id = true};
  Caller member = stranger;
  member.thread = 77;
  member.has_group = [](const Caller& caller, Gid gid) { return caller.thread == 77 && gid == Gid{50}; };
  ASSERT_EQ(make_file("other"), 0);
  ASSERT_EQ(write("other", 0, "some bytes"), 0);
  const Ino other = ino("other");
  const std::vector<std::pair<const char*, std::function<int(const Caller&)>>> changes = {
      {"write",
       [&](const Caller& by) {
         return code(fs().write(file_, 0, as_bytes("x"), {.kill_suid_sgid = true}, by));
       }},
      {"truncate",
       [&](const Caller& by) { return code(fs().setattr(file_, {.size = 9, .kill_suid_sgid = true}, by)); }},
      {"fallocate", [&](const Caller& by) { return code(fs().fallocate(file_, 0, 0, 20, by)); }},
      {"copy_file_range",
       [&](const Caller& by) { return code(fs().copy_file_range(other, 0, file_, 0, 4, by)); }},
  };
  for (const auto& [name, change] : changes) {
    SCOPED_TRACE(name);
    const auto mode_after = [&, &make = change](const Caller& by) -> int {
      EXPECT_EQ(set("file", {.uid = Uid{5}, .gid = Gid{50}}), 0);
      EXPECT_EQ(set("file", {.mode = 06666}), 0);
      EXPECT_EQ(make(by), 0);
      return node("file").mode;
    };
    EXPECT_EQ(mode_after(stranger), 0666);
    EXPECT_EQ(mode_after(member), 02666);
    EXPECT_EQ(mode_after(owner), 02666);
  }
  ASSERT_EQ(set("file", {.mode = 06666}), 0);
  ASSERT_EQ(set("file", {.gid = Gid{51}}), 0);
  EXPECT_EQ(node("file").mode, 02666) << "root has CAP_FSETID";
}

TEST_F(Attributes, AChangeOfOwnerClearsSetIdBitsOfFilesAndNotOfDirectories) {
  ASSERT_EQ(set("file", {.mode = 06755}), 0);
  ASSERT_EQ(set("file", {.gid = Gid{5}}), 0);
  EXPECT_EQ(node("file").mode, 0755);
  EXPECT_EQ(xattrs("file"), "user.a user.b ");
  ASSERT_EQ(set("dir", {.mode = 06755}), 0);
  ASSERT_EQ(set("dir", {.uid = Uid{5}}), 0);
  EXPECT_EQ(node("dir").mode, 06755);
}

// chown(2) with -1 for both asks for nothing. What others ask for nothing for is a write(2), which is let
// pass.
TEST_F(Attributes, AChangeOfNeitherOwnerNorGroupClearsSetIdBitsToo) {
  ASSERT_EQ(set("file", {.mode = 06755, .uid = Uid{5}}), 0);  // the owner first, then the mode
  ASSERT_EQ(set("dir", {.mode = 06755}), 0);
  EXPECT_EQ(code(fs().setattr(file_, {}, {.uid = Uid{6}})), 0);
  EXPECT_EQ(node("file").mode, 06755);
  EXPECT_EQ(code(fs().setattr(file_, {}, {.uid = Uid{5}})), 0);
  EXPECT_EQ(node("file").mode, 0755);
  EXPECT_EQ(set("dir", {}), 0);
  EXPECT_EQ(node("dir").mode, 06755);
}

TEST_F(Attributes, TimesAreSetAsGivenAndAChangeOfAnythingIsAChangeOfStatus) {
  ASSERT_EQ(set("file", {.atime = Time{-1, 999'999'999}, .mtime = Time{1, 2}}), 0);
  Node node_now = node("file");
  EXPECT_EQ(node_now.atime, (Time{-1, 999'999'999}));
  EXPECT_EQ(node_now.mtime, (Time{1, 2}));
  EXPECT_GT(node_now.ctime.seconds, 1'000'000'000);
  ASSERT_EQ(set("file", {.ctime = Time{3, 4}}), 0);
  EXPECT_EQ(node("file").ctime, (Time{3, 4}));
  SetAttr touch{.mtime = std::nullopt};
  touch.atime_now = touch.mtime_now = true;
  ASSERT_EQ(set("file", touch), 0);
  EXPECT_GT(node("file").mtime.seconds, 1'000'000'000);
  EXPECT_EQ(node("file").mtime, node("file").atime);
}

// Within one tick of the clock that file times are taken from too: who looked in between must see it.
TEST_F(Attributes, EveryChangeIsSeenByItsTimes) {
  ASSERT_EQ(make_dir("d"), 0);
  ASSERT_EQ(make_file("d/f"), 0);
  int number = 0;
  auto expect_moved = [&](const std::vector<std::string>& paths, const std::function<int()>& change) {
    SCOPED_TRACE(++number);
    std::vector<Ino> inos;
    std::vector<Time> before;
    for (const auto& path : paths) {
      inos.push_back(ino(path));
      before.push_back(fs().getattr(inos.back())->ctime);
    }
    ASSERT_EQ(change(), 0);
    for (std::size_t i = 0; i < inos.size(); ++i)
      EXPECT_GT(fs().getattr(inos[i])->ctime, before[i]) << paths[i];
  };
  for (int round = 0; round < 20; ++round) {
    expect_moved({"d/f"}, [&] { return write("d/f", 0, "x"); });
    expect_moved({"d/f"}, [&] { return set("d/f", {.mode = 0600}); });
    expect_moved({"d/f"}, [&] { return set_xattr("d/f", "user.x", "1"); });
    expect_moved({"d/f"}, [&] { return code(fs().removexattr(ino("d/f"), "user.x", {})); });
    expect_moved({"d/f", "d"}, [&] { return link("d/f", "d/g"); });
    expect_moved({"d/f", "d"}, [&] { return unlink("d/g"); });
    expect_moved({"d/f", "d"}, [&] { return rename("d/f", "d/h"); });
    expect_moved({"d/h", "d"}, [&] { return rename("d/h", "d/f"); });
    expect_moved({"d"}, [&] { return make_dir("d/sub"); });
    expect_moved({"d"}, [&] { return rmdir("d/sub"); });
  }
}

TEST_F(Attributes, XattrsOfLowerAndUpperAreOneList) {
  EXPECT_EQ(xattrs("file"), "security.capability user.a user.b ");
  ASSERT_EQ(set_xattr("file", "user.a", "new"), 0);
  ASSERT_EQ(set_xattr("file", "trusted.t", ""), 0);
  ASSERT_EQ(code(fs().removexattr(file_, "user.b", {})), 0);
  EXPECT_EQ(xattrs("file"), "security.capability trusted.t user.a ");
  EXPECT_EQ(xattr("file", "user.a"), "new");
  EXPECT_EQ(xattr("file", "trusted.t"), "");
  EXPECT_EQ(xattr("file", "user.b"), "none: " + std::to_string(ENODATA));
  EXPECT_EQ(code(fs().removexattr(file_, "user.b", {})), ENODATA);
  ASSERT_EQ(set_xattr("file", "user.b", "again"), 0);
  EXPECT_EQ(xattr("file", "user.b"), "again");
}

TEST_F(Attributes, AnXattrOfTheUpperAloneLeavesNoTombstone) {
  ASSERT_EQ(set_xattr("file", "user.new", "x"), 0);
  ASSERT_EQ(code(fs().removexattr(file_, "user.new", {})), 0);
  std::string value;
  EXPECT_EQ(upper_->find_xattr(file_, "user.new", value), tree::XattrState::kAbsent);
}

TEST_F(Attributes, XattrsHaveTheLimitsOfTheKernel) {
  EXPECT_EQ(set_xattr("file", "user.a", "x", SetXattrMode::kCreate), EEXIST);
  EXPECT_EQ(set_xattr("file", "user.none", "x", SetXattrMode::kReplace), ENODATA);
  EXPECT_EQ(set_xattr("file", "user." + std::string(250, 'n'), "x"), 0);
  EXPECT_EQ(set_xattr("file", "user." + std::string(251, 'n'), "x"), ERANGE);
  EXPECT_EQ(set_xattr("file", "user.big", std::string(65536, 'v')), 0);
  EXPECT_EQ(set_xattr("file", "user.big", std::string(65537, 'v')), E2BIG);
  int last = 0;
  for (int i = 0; i < 300 && last == 0; ++i)
    last = set_xattr("dir", "user." + std::to_string(i) + std::string(245, 'n'), "");
  EXPECT_EQ(last, ENOSPC);
  EXPECT_LE(fs().listxattr(dir_)->size(), 65536U);
}

TEST_F(Attributes, AListOfXattrsMayBeAsLongAsTheKernelTakesIt) {
  ASSERT_EQ(make_file("many"), 0);
  const auto name = [](int number, std::size_t size) {
    std::string text = "user." + std::to_string(number);
    return text + std::string(size - text.size(), 'n');
  };
  for (int i = 0; i < 255; ++i) ASSERT_EQ(set_xattr("many", name(i, 255), ""), 0);  // 256 bytes each
  EXPECT_EQ(set_xattr("many", name(255, 254), ""), 0);
  EXPECT_EQ(fs().listxattr(ino("many"))->size(), 65535U);
  EXPECT_EQ(set_xattr("many", "u", ""), ENOSPC);
  EXPECT_EQ(code(fs().removexattr(ino("many"), name(255, 254), {})), 0);
  EXPECT_EQ(set_xattr("many", name(256, 255), ""), 0) << "to the last byte";
  EXPECT_EQ(fs().listxattr(ino("many"))->size(), 65536U);
  EXPECT_EQ(set_xattr("many", name(256, 255), "another value"), 0);
}

TEST_F(Attributes, SpecialFilesAndSymlinksHaveXattrsToo) {
  ASSERT_EQ(forgotten(fs().symlink(tree::kRootIno, "l", "x", {})), 0);
  ASSERT_EQ(set_xattr("l", "trusted.t", "1"), 0);
  EXPECT_EQ(xattr("l", "trusted.t"), "1");
  EXPECT_EQ(set_xattr("l", kAclAccess, acl(7, 5, 0)), EOPNOTSUPP);
}

TEST_F(Attributes, NothingChangesOnAReadOnlyFileSystem) {
  mount({.read_only = true});
  EXPECT_EQ(make_file("x"), EROFS);
  EXPECT_EQ(make_dir("x"), EROFS);
  EXPECT_EQ(unlink("file"), EROFS);
  EXPECT_EQ(rename("file", "x"), EROFS);
  EXPECT_EQ(link("file", "x"), EROFS);
  EXPECT_EQ(write("file", 0, "x"), EROFS);
  EXPECT_EQ(set("file", {.mode = 0600}), EROFS);
  EXPECT_EQ(set_xattr("file", "user.a", "x"), EROFS);
  EXPECT_EQ(code(fs().removexattr(file_, "user.a", {})), EROFS);
  EXPECT_EQ(code(fs().fallocate(file_, 0, 0, 10, {})), EROFS);
  EXPECT_EQ(code(fs().tmpfile(dir_, 0600, {})), EROFS);
  EXPECT_EQ(read("file"), "text");
}

TEST_F(Attributes, ATreeWithoutAnUpperIsAFullReadOnlyFileSystem) {
  auto alone = UnionFs::make(lower_, blobs_, nullptr, {});
  ASSERT_TRUE(alone);
  EXPECT_EQ(code((*alone)->mkdir(dir_, "x", 0755, {})), EROFS);
  EXPECT_EQ((*alone)->lookup(tree::kRootIno, "file")->ino, file_);
  EXPECT_EQ(code((*alone)->fsync(file_, FsyncKind::kAll)), 0);
  auto stats = (*alone)->statfs();
  ASSERT_TRUE(stats);
  EXPECT_EQ(stats->f_namemax, 255U);
  EXPECT_EQ(stats->f_bavail, 0U);
  (*alone)->forget(file_, 1);
}

TEST_F(Attributes, StatfsIsTheUppersWithNamesOf255Bytes) {
  EXPECT_EQ(fs().statfs()->f_namemax, 255U);
  EXPECT_EQ(fs().statfs()->f_blocks, upper_->stat_fs()->f_blocks);
}

TEST_F(Attributes, AFrozenFileSystemHoldsChangesBackAndAnswersReads) {
  ASSERT_TRUE(fs().freeze());
  EXPECT_EQ(code(fs().freeze()), EBUSY);
  std::atomic<bool> done{false};
  std::thread writer([&] {
    EXPECT_EQ(code(fs().setattr(file_, {.mode = 0600}, {})), 0);
    done = true;
  });
  EXPECT_EQ(read("file"), "text");
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(done);
  EXPECT_EQ(node("file").mode, 0644);
  fs().thaw();
  writer.join();
  EXPECT_EQ(node("file").mode, 0600);
  ASSERT_TRUE(fs().freeze());
  fs().thaw();
}

TEST_F(Attributes, AFreezeThatFailsLeavesNothingFrozen) {
  FaultPlan plan{1, EIO};
  upper_->plan = &plan;
  EXPECT_EQ(code(fs().freeze()), EIO);
  upper_->plan = nullptr;
  std::atomic<bool> done{false};
  std::thread writer([&] {
    EXPECT_EQ(code(fs().setattr(file_, {.mode = 0600}, {})), 0);
    done = true;
  });
  for (int i = 0; i < 500 && !done; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_TRUE(done);
  if (!done) fs().thaw();
  writer.join();
  EXPECT_EQ(code(fs().freeze()), 0) << "it can be tried again";
  fs().thaw();
}

TEST_F(Attributes, WhatIsForgottenWhileFrozenIsErasedAfterwards) {
  auto held = fs().lookup(tree::kRootIno, "file");
  ASSERT_EQ(unlink("file"), 0);
  ASSERT_TRUE(fs().freeze());
  fs().forget(held->ino, 1);
  EXPECT_TRUE(upper_->find_node(held->ino));
  fs().thaw();
  EXPECT_FALSE(upper_->find_node(held->ino));
  expect_sound();
}

}  // namespace
}  // namespace layerfs::unionfs
