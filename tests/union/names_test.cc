// SPDX-License-Identifier: Apache-2.0
// Names: lookup, creation, removal, links, rename, listing; one sentence each.
#include <fcntl.h>
#include <stdio.h>

#include <set>

#include "tests/union/union_fixture.h"

namespace layerfs::unionfs {
namespace {

class Names : public UnionTest {
 protected:
  Names() {
    dir_ = lower_dir(tree::kRootIno, "dir");
    sub_ = lower_dir(dir_, "sub");
    file_ = lower_file(dir_, "file", "lower");
    lower_file(sub_, "deep", "deep");
    lower_->add_link(sub_, "alias", file_);
    lower_symlink(dir_, "link", "file");
    lower_dir(tree::kRootIno, "empty");
    mount();
  }
  Ino dir_, sub_, file_;
};

TEST_F(Names, LookupAnswersLowerAndUpperNamesAndDots) {
  EXPECT_EQ(ino("dir/file"), file_);
  EXPECT_EQ(make_file("dir/new"), 0);
  EXPECT_GE(to_number(ino("dir/new")), tree::kFirstUpperIno);
  EXPECT_EQ(ino("dir/sub/.."), dir_);
  EXPECT_EQ(ino("dir/."), dir_);
  EXPECT_EQ(ino(".."), tree::kRootIno);
}

TEST_F(Names, LookupRefusesWhatNoNameCanBe) {
  EXPECT_EQ(code(find("dir/none")), ENOENT);
  EXPECT_EQ(code(fs().lookup(file_, "x")), ENOTDIR);
  EXPECT_EQ(code(fs().lookup(file_, "..")), ENOTDIR);
  EXPECT_EQ(code(fs().lookup(dir_, std::string(256, 'x'))), ENAMETOOLONG);
  EXPECT_EQ(code(fs().lookup(dir_, std::string(255, 'x'))), ENOENT);
  EXPECT_EQ(code(fs().lookup(dir_, "a/b")), EINVAL);
  EXPECT_EQ(code(fs().lookup(dir_, "")), ENOENT);
}

TEST_F(Names, ANameOf255BytesIsKept) {
  std::string name(255, '\xff');
  EXPECT_EQ(make_file(name), 0);
  EXPECT_EQ(code(find(name)), 0);
  EXPECT_EQ(make_file(name + "x"), ENAMETOOLONG);
}

TEST_F(Names, UnlinkOfALowerFileMakesAWhiteoutAndOfAnUpperFileNone) {
  EXPECT_EQ(make_file("dir/new"), 0);
  EXPECT_EQ(unlink("dir/new"), 0);
  EXPECT_EQ(entries_in_upper(dir_), 0U);
  EXPECT_EQ(unlink("dir/link"), 0);
  EXPECT_EQ(upper_->find_entry(dir_, "link").state, tree::EntryState::kTombstone);
  EXPECT_EQ(code(find("dir/link")), ENOENT);
  EXPECT_EQ(unlink("dir/link"), ENOENT);
  expect_sound();
}

TEST_F(Names, EveryKindCanBeMadeAgainOverAWhiteoutOfEveryKind) {
  const std::vector<std::string> lower = {"dir/file", "dir/link", "empty"};
  for (const std::string& path : lower) {
    for (int kind = 0; kind < 4; ++kind) {
      bool was_dir = node(path).kind == NodeKind::kDirectory;
      ASSERT_EQ(was_dir ? rmdir(path) : unlink(path), 0);
      ASSERT_EQ(code(find(path)), ENOENT);
      switch (kind) {
        case 0: ASSERT_EQ(make_file(path), 0); break;
        case 1: ASSERT_EQ(make_dir(path), 0); break;
        case 2: ASSERT_EQ(forgotten(fs().symlink(dir_of(path), name_of(path), "t", {})), 0); break;
        default:
          ASSERT_EQ(forgotten(fs().mknod(dir_of(path), name_of(path), S_IFIFO | 0600, 0, {})), 0);
          break;
      }
      EXPECT_GE(to_number(ino(path)), tree::kFirstUpperIno);
      expect_sound();
    }
  }
}

TEST_F(Names, ADirectoryMadeOverARemovedOneIsEmpty) {
  EXPECT_EQ(unlink("dir/sub/deep"), 0);
  EXPECT_EQ(unlink("dir/sub/alias"), 0);
  EXPECT_EQ(rmdir("dir/sub"), 0);
  EXPECT_EQ(make_dir("dir/sub"), 0);
  EXPECT_EQ(names("dir/sub"), "");
  expect_sound();
}

TEST_F(Names, RemovalChecksTheKindAndThatADirectoryIsEmptyInBoth) {
  EXPECT_EQ(unlink("dir/sub"), EISDIR);
  EXPECT_EQ(rmdir("dir/file"), ENOTDIR);
  EXPECT_EQ(rmdir("dir/sub"), ENOTEMPTY);
  EXPECT_EQ(make_file("empty/x"), 0);
  EXPECT_EQ(rmdir("empty"), ENOTEMPTY);
  EXPECT_EQ(unlink("empty/x"), 0);
  EXPECT_EQ(rmdir("empty"), 0);
  EXPECT_EQ(rmdir("empty"), ENOENT);
  EXPECT_EQ(code(fs().rmdir(dir_, ".", {})), EINVAL);
  EXPECT_EQ(code(fs().rmdir(dir_, "..", {})), ENOTEMPTY);
}

TEST_F(Names, CreationOverANameIsRefused) {
  EXPECT_EQ(make_file("dir/file"), EEXIST);
  EXPECT_EQ(make_dir("dir/sub"), EEXIST);
  EXPECT_EQ(link("dir/link", "dir/file"), EEXIST);
  EXPECT_EQ(forgotten(fs().symlink(dir_, "link", "x", {})), EEXIST);
  EXPECT_EQ(make_dir("dir/."), EEXIST);
}

TEST_F(Names, LinkCountsOfDirectoriesFollowTheirSubdirectories) {
  EXPECT_EQ(node("dir").nlink, 3U);
  EXPECT_EQ(make_dir("dir/more"), 0);
  EXPECT_EQ(node("dir").nlink, 4U);
  EXPECT_EQ(rename("dir/more", "empty/more"), 0);
  EXPECT_EQ(node("dir").nlink, 3U);
  EXPECT_EQ(node("empty").nlink, 3U);
  EXPECT_EQ(rmdir("empty/more"), 0);
  EXPECT_EQ(node("empty").nlink, 2U);
  expect_sound();
}

TEST_F(Names, HardLinksStayLinkedThroughCopyUp) {
  EXPECT_EQ(node("dir/file").nlink, 2U);
  EXPECT_EQ(write("dir/sub/alias", 0, "UPPER"), 0);
  EXPECT_EQ(read("dir/file"), "UPPER");
  EXPECT_EQ(ino("dir/file"), ino("dir/sub/alias"));
  EXPECT_EQ(link("dir/file", "third"), 0);
  EXPECT_EQ(node("third").nlink, 3U);
  EXPECT_EQ(unlink("dir/file"), 0);
  EXPECT_EQ(node("third").nlink, 2U);
  EXPECT_EQ(read("third"), "UPPER");
  expect_sound();
}

TEST_F(Names, ADirectoryCannotBeLinked) { EXPECT_EQ(link("dir/sub", "x"), EPERM); }

TEST_F(Names, LinksAreLimitedAsOnExt4) {
  Node node = *fs().getattr(file_);
  node.nlink = 64999;
  ASSERT_TRUE(upper_->apply({{tree::PutNode{file_, node}}, 0}));
  EXPECT_EQ(link("dir/file", "x"), 0);
  EXPECT_EQ(link("dir/file", "y"), EMLINK);
}

TEST_F(Names, InodeNumbersOutliveCopyUpRenameAndRemount) {
  ASSERT_EQ(write("dir/file", 0, "x"), 0);
  ASSERT_EQ(rename("dir/file", "moved"), 0);
  ASSERT_EQ(make_file("new"), 0);
  Ino made = ino("new");
  mount();
  EXPECT_EQ(ino("moved"), file_);
  EXPECT_EQ(ino("dir/sub/alias"), file_);
  EXPECT_EQ(ino("new"), made);
}

TEST_F(Names, RenameOfALowerDirectoryMovesOneEntry) {
  ASSERT_EQ(rename("dir", "empty/moved"), 0);
  EXPECT_EQ(ino("empty/moved"), dir_);
  EXPECT_EQ(names("empty/moved"), "file link sub");
  EXPECT_EQ(read("empty/moved/sub/deep"), "deep");
  EXPECT_EQ(ino("empty/moved/.."), ino("empty"));
  EXPECT_EQ(code(find("dir")), ENOENT);
  std::size_t changed = 0;
  upper_->for_each_changed([&](Ino, const tree::ChangedParts&) { return ++changed, true; });
  EXPECT_EQ(changed, 3U);  // the two parents and the directory itself
  expect_sound();
}

TEST_F(Names, RenameThereAndBackLeavesNoEntryInTheUpper) {
  ASSERT_EQ(rename("dir", "away"), 0);
  ASSERT_EQ(rename("away", "dir"), 0);
  EXPECT_EQ(entries_in_upper(tree::kRootIno), 0U);
  expect_sound();
}

TEST_F(Names, RenameOfAMergedDirectoryTakesBothAlong) {
  ASSERT_EQ(make_file("dir/new"), 0);
  ASSERT_EQ(unlink("dir/link"), 0);
  ASSERT_EQ(rename("dir", "moved"), 0);
  EXPECT_EQ(names("moved"), "file new sub");
  ASSERT_EQ(make_dir("dir"), 0);
  EXPECT_EQ(names("dir"), "");
  expect_sound();
}

TEST_F(Names, RenameReplacesWhatItMay) {
  ASSERT_EQ(make_file("f"), 0);
  ASSERT_EQ(write("f", 0, "upper"), 0);
  EXPECT_EQ(rename("f", "dir/file"), 0);
  EXPECT_EQ(read("dir/file"), "upper");
  EXPECT_EQ(read("dir/sub/alias"), "lower");
  EXPECT_EQ(node("dir/sub/alias").nlink, 1U);
  EXPECT_EQ(rename("dir/sub", "empty"), 0);
  EXPECT_EQ(names("empty"), "alias deep");
  expect_sound();
}

TEST_F(Names, RenameRefusesWhatItMust) {
  ASSERT_EQ(make_dir("other"), 0);
  EXPECT_EQ(rename("none", "x"), ENOENT);
  EXPECT_EQ(rename("dir/file", "other"), EISDIR);
  EXPECT_EQ(rename("other", "dir/file"), ENOTDIR);
  EXPECT_EQ(rename("other", "dir"), ENOTEMPTY);
  EXPECT_EQ(rename("dir", "dir/sub/x"), EINVAL);
  EXPECT_EQ(rename("dir", "dir/x"), EINVAL);
  EXPECT_EQ(rename("dir/sub/deep", "dir/sub"), EISDIR);
  EXPECT_EQ(rename("dir/sub", "dir"), ENOTEMPTY);
  EXPECT_EQ(rename("dir/file", "dir/link", RENAME_NOREPLACE), EEXIST);
  EXPECT_EQ(rename("dir/file", "x", RENAME_EXCHANGE), ENOENT);
  EXPECT_EQ(rename("dir", "dir/sub", RENAME_EXCHANGE), EINVAL);
  EXPECT_EQ(rename("dir/sub", "dir", RENAME_EXCHANGE), EINVAL);
  EXPECT_EQ(rename("dir/file", "x", RENAME_WHITEOUT), EINVAL);
  EXPECT_EQ(rename("dir/file", "x", RENAME_NOREPLACE | RENAME_EXCHANGE), EINVAL);
  EXPECT_EQ(rename("dir/file", "dir/" + std::string(256, 'x')), ENAMETOOLONG);
  EXPECT_EQ(code(fs().rename(dir_, ".", dir_, "x", 0, {})), EBUSY);
}

TEST_F(Names, RenameOntoAnotherNameOfTheSameFileDoesNothing) {
  EXPECT_EQ(rename("dir/file", "dir/sub/alias"), 0);
  EXPECT_EQ(node("dir/file").nlink, 2U);
}

TEST_F(Names, ExchangeSwapsKindsParentsAndCounts) {
  ASSERT_EQ(rename("dir/sub", "empty", RENAME_EXCHANGE), 0);
  EXPECT_EQ(ino("empty"), sub_);
  EXPECT_EQ(ino("empty/.."), tree::kRootIno);
  ASSERT_EQ(rename("dir/file", "empty", RENAME_EXCHANGE), 0);
  EXPECT_EQ(ino("empty"), file_);
  EXPECT_EQ(ino("dir/file/.."), dir_);
  EXPECT_EQ(node("").nlink, 3U);
  EXPECT_EQ(node("dir").nlink, 4U);
  expect_sound();
}

TEST_F(Names, ADirectoryThatIsReplacedByRenameHasNoLinksAndTakesNoNames) {
  auto held = fs().lookup(tree::kRootIno, "empty");
  ASSERT_EQ(rename("dir/sub", "empty"), 0);
  EXPECT_EQ(fs().getattr(held->ino)->nlink, 0U);
  EXPECT_EQ(code(fs().mkdir(held->ino, "x", 0755, {})), ENOENT);
  EXPECT_EQ(code(fs().link(file_, held->ino, "x", {})), ENOENT);
  EXPECT_EQ(code(fs().rename(dir_, "file", held->ino, "x", 0, {})), ENOENT);
  EXPECT_EQ(code(fs().readdir(held->ino, tree::kDirStart, [](const EntryView&) { return true; })), ENOENT);
  fs().forget(held->ino, 1);
  expect_sound();
}

TEST_F(Names, AnUnlinkedFileLivesUntilItIsForgotten) {
  auto held = fs().lookup(sub_, "deep");
  ASSERT_EQ(unlink("dir/sub/deep"), 0);
  EXPECT_EQ(fs().getattr(held->ino)->nlink, 0U);
  EXPECT_EQ(read_ino(held->ino), "deep");
  EXPECT_EQ(write_ino(held->ino, 4, "er"), 0);
  EXPECT_EQ(read_ino(held->ino), "deeper");
  fs().forget(held->ino, 1);
  EXPECT_FALSE(upper_->find_node(held->ino));
  EXPECT_EQ(code(upper_->open_data(held->ino)), ENOENT);
  expect_sound();
}

// What a file handle is opened by (open_by_handle_at(2)).
TEST_F(Names, AFileIsFoundByItsNumberAloneWhileItHasAName) {
  auto held = fs().lookup(file_, ".");
  ASSERT_TRUE(held);
  EXPECT_EQ(held->ino, file_);
  EXPECT_EQ(held->node.size, 5U);
  ASSERT_EQ(unlink("dir/file"), 0);
  ASSERT_EQ(unlink("dir/sub/alias"), 0);
  EXPECT_EQ(code(fs().lookup(file_, ".")), ENOENT);
  EXPECT_TRUE(upper_->find_node(file_));
  fs().forget(held->ino, 1);
  EXPECT_FALSE(upper_->find_node(file_));
  EXPECT_EQ(code(fs().lookup(file_, ".")), ENOENT);
}

TEST_F(Names, WhatWasRemovedFromTheTreeIsNotFoundByItsNumber) {
  Ino deep = ino("dir/sub/deep");
  ASSERT_TRUE(fs().lookup(deep, "."));
  fs().forget(deep, 1);
  ASSERT_EQ(unlink("dir/sub/deep"), 0);
  ASSERT_EQ(unlink("dir/sub/alias"), 0);
  ASSERT_EQ(rmdir("dir/sub"), 0);
  ASSERT_EQ(make_dir("dir/sub"), 0);
  for (Ino gone : {deep, sub_}) EXPECT_EQ(code(fs().lookup(gone, ".")), ENOENT);
  ASSERT_TRUE(fs().lookup(file_, "."));
  ASSERT_TRUE(fs().lookup(tree::kRootIno, "."));
}

TEST_F(Names, ForgetsMayComeInParts) {
  auto first = fs().lookup(sub_, "deep");
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(fs().lookup(sub_, "deep"));
  ASSERT_EQ(unlink("dir/sub/deep"), 0);
  fs().forget(first->ino, 3);
  EXPECT_TRUE(upper_->find_node(first->ino));
  fs().forget(first->ino, 1);
  EXPECT_FALSE(upper_->find_node(first->ino));
}

// An emptied directory of the tree is as many tombstones as it had entries: more than one change may hold.
TEST_F(Names, ALargeDirectoryOfTheTreeIsForgottenInParts) {
  for (int i = 0; i < 2500; ++i) lower_file(sub_, "n" + std::to_string(i), "");
  for (int i = 0; i < 2500; ++i) ASSERT_EQ(code(fs().unlink(sub_, "n" + std::to_string(i), {})), 0);
  ASSERT_EQ(unlink("dir/sub/deep"), 0);
  ASSERT_EQ(unlink("dir/sub/alias"), 0);
  upper_->most_changes = 1500;
  auto held = fs().lookup(dir_, "sub");
  ASSERT_EQ(rmdir("dir/sub"), 0);
  EXPECT_TRUE(upper_->find_node(sub_));
  fs().forget(held->ino, 1);
  EXPECT_FALSE(upper_->find_node(sub_));
  EXPECT_EQ(entries_in_upper(sub_), 0U);
  expect_sound();
}

TEST_F(Names, ALargeDirectoryThatNobodyHoldsIsRemovedToo) {
  for (int i = 0; i < 2500; ++i) lower_file(sub_, "n" + std::to_string(i), "");
  for (int i = 0; i < 2500; ++i) ASSERT_EQ(code(fs().unlink(sub_, "n" + std::to_string(i), {})), 0);
  ASSERT_EQ(unlink("dir/sub/deep"), 0);
  ASSERT_EQ(unlink("dir/sub/alias"), 0);
  upper_->most_changes = 1500;
  ASSERT_EQ(rename("empty", "dir/sub"), 0);
  EXPECT_FALSE(upper_->find_node(sub_));
  EXPECT_EQ(entries_in_upper(sub_), 0U);
  expect_sound();
}

TEST_F(Names, OrphansOfADeadServerAreForgottenAtTheNextMountUnlessTheyAreKept) {
  auto held = fs().lookup(sub_, "deep");
  ASSERT_EQ(unlink("dir/sub/deep"), 0);
  mount({.keep_orphans = true});
  EXPECT_EQ(read_ino(held->ino), "deep");
  mount();
  EXPECT_TRUE(upper_->orphans().empty());
  expect_sound();
}

TEST_F(Names, ATakeoverKeepsUnlinkedFilesThatTheKernelHolds) {
  Ino held = fs().lookup(sub_, "deep")->ino;
  Ino left = fs().tmpfile(dir_, 0600, {})->ino;  // its FORGET dies with the server
  ASSERT_EQ(unlink("dir/sub/deep"), 0);
  mount({.keep_orphans = true});
  std::vector<Ino> in_kernel{held, ino("dir/file")};
  fs().inherit_lookups([&](Ino asked) { return std::ranges::find(in_kernel, asked) != in_kernel.end(); });
  EXPECT_TRUE(upper_->find_node(held));
  EXPECT_FALSE(upper_->find_node(left));
  // One that had its names still: no lookup is known, and it is open.
  ASSERT_EQ(unlink("dir/file"), 0);
  ASSERT_EQ(unlink("dir/sub/alias"), 0);
  EXPECT_EQ(upper_->orphans().size(), 2U);
  // A FORGET of less than the kernel has.
  fs().forget(held, 1);
  EXPECT_EQ(read_ino(held), "deep");
  Ino file = in_kernel[1];
  in_kernel.clear();
  fs().forget(held, 4);
  EXPECT_FALSE(upper_->find_node(held));
  fs().forget(file, 1);
  EXPECT_TRUE(upper_->orphans().empty());
  expect_sound();
}

TEST_F(Names, AResentCreationAnswersTheInodeAndCountsIt) {
  auto first = fs().mknod(dir_, "new", S_IFREG | 0644, 0, {.request = 2});
  ASSERT_TRUE(first);
  mount({.keep_orphans = true});
  auto again = fs().mknod(dir_, "new", S_IFREG | 0644, 0, {.request = 2, .resent = true});
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_EQ(again->ino, first->ino);
  ASSERT_TRUE(fs().write(again->ino, 0, as_bytes("line"), {}, {.request = 4}));
  ASSERT_TRUE(fs().write(again->ino, 0, as_bytes("line"), {}, {.request = 4, .resent = true}));
  ASSERT_EQ(unlink("dir/new"), 0);
  EXPECT_EQ(read_ino(again->ino), "line");
  fs().forget(again->ino, 1);
  EXPECT_FALSE(upper_->find_node(again->ino));
  expect_sound();
}

TEST_F(Names, AnUnnamedFileCanBeGivenAName) {
  auto made = fs().tmpfile(dir_, 0600, {.uid = Uid{7}, .gid = Gid{8}});
  ASSERT_TRUE(made);
  EXPECT_EQ(made->node.nlink, 0U);
  EXPECT_EQ(to_number(made->node.uid), 7U);
  ASSERT_EQ(write_ino(made->ino, 0, "text"), 0);
  ASSERT_EQ(forgotten(fs().link(made->ino, dir_, "named", {})), 0);
  EXPECT_EQ(node("dir/named").nlink, 1U);
  fs().forget(made->ino, 1);
  EXPECT_EQ(read("dir/named"), "text");
  expect_sound();
}

TEST_F(Names, AnUnnamedFileThatGetsNoNameIsGone) {
  auto made = fs().tmpfile(dir_, 0600, {});
  fs().forget(made->ino, 1);
  EXPECT_FALSE(upper_->find_node(made->ino));
  EXPECT_EQ(code(fs().tmpfile(file_, 0600, {})), ENOTDIR);
}

TEST_F(Names, SymlinksHaveTheirTextAndLimits) {
  ASSERT_EQ(forgotten(fs().symlink(dir_, "s", std::string(4095, 't'), {.umask = 077})), 0);
  EXPECT_EQ(fs().readlink(ino("dir/s")).value().size(), 4095U);
  EXPECT_EQ(node("dir/s").mode, 0777);
  EXPECT_EQ(forgotten(fs().symlink(dir_, "t", std::string(4096, 't'), {})), ENAMETOOLONG);
  EXPECT_EQ(forgotten(fs().symlink(dir_, "t", "", {})), ENOENT);
  EXPECT_EQ(code(fs().readlink(file_)), EINVAL);
}

TEST_F(Names, ALowerSymlinkKeepsItsTextThroughAChangeOfOwner) {
  ASSERT_EQ(set("dir/link", {.uid = Uid{5}}), 0);
  EXPECT_EQ(fs().readlink(ino("dir/link")).value(), "file");
  EXPECT_EQ(upper_->get_inline(ino("dir/link")).value(), "file");
}

TEST_F(Names, DevicesKeepTheirNumbersAndOtherKindsHaveNone) {
  ASSERT_EQ(forgotten(fs().mknod(dir_, "c", S_IFCHR | 0600, 0x103, {})), 0);
  ASSERT_EQ(forgotten(fs().mknod(dir_, "p", S_IFIFO | 0600, 0x103, {})), 0);
  EXPECT_EQ(node("dir/c").rdev, 0x103U);
  EXPECT_EQ(node("dir/p").rdev, 0U);
  EXPECT_EQ(code(fs().mknod(dir_, "x", S_IFDIR | 0600, 0, {})), EINVAL);
}

TEST_F(Names, AListingBeginsWithDotsAndGoesOnFromAnyCookieWhileEntriesComeAndGo) {
  for (int i = 0; i < 500; ++i) ASSERT_EQ(make_file("dir/n" + std::to_string(i)), 0);
  std::set<std::string> stay;
  for (int i = 0; i < 500; i += 2) stay.insert("n" + std::to_string(i));
  std::vector<std::string> seen;
  DirCookie after = tree::kDirStart;
  for (int round = 0;; ++round) {
    std::size_t before = seen.size();
    ASSERT_TRUE(fs().readdir(dir_, after, [&](const EntryView& entry) {
      seen.emplace_back(entry.name);
      after = entry.cookie;
      return seen.size() < before + 20;
    }));
    if (seen.size() == before) break;
    if (round < 250) {
      ASSERT_EQ(unlink("dir/n" + std::to_string(round * 2 + 1)), 0);
    }
    ASSERT_EQ(make_file("dir/late" + std::to_string(round)), 0);
  }
  EXPECT_EQ(seen[0], ".");
  EXPECT_EQ(seen[1], "..");
  EXPECT_EQ(std::set(seen.begin(), seen.end()).size(), seen.size());
  for (const auto& name : stay) EXPECT_EQ(std::count(seen.begin(), seen.end(), name), 1) << name;
  for (const char* name : {"file", "link", "sub"}) EXPECT_EQ(std::count(seen.begin(), seen.end(), name), 1);
}

TEST_F(Names, AListingShowsTheUppersAttributesOfLowerEntries) {
  ASSERT_EQ(set("dir/file", {.mode = 0600}), 0);
  ASSERT_TRUE(fs().readdir(dir_, tree::kDirStart, [&](const EntryView& entry) {
    EXPECT_TRUE(entry.name != "file" || entry.node.mode == 0600);
    return true;
  }));
  EXPECT_EQ(code(fs().readdir(file_, tree::kDirStart, [](const EntryView&) { return true; })), ENOTDIR);
}

TEST_F(Names, RemovalOfAWholeLowerTreeLeavesOneWhiteout) {
  for (const char* path : {"dir/sub/deep", "dir/sub/alias", "dir/file", "dir/link"})
    ASSERT_EQ(unlink(path), 0);
  ASSERT_EQ(rmdir("dir/sub"), 0);
  ASSERT_EQ(rmdir("dir"), 0);
  std::size_t changed = 0;
  upper_->for_each_changed([&](Ino, const tree::ChangedParts&) { return ++changed, true; });
  EXPECT_EQ(changed, 1U);  // the root: its time, and the whiteout of "dir"
  EXPECT_EQ(names(""), "empty");
  expect_sound();
}

TEST_F(Names, ARequestThatIsSentAgainIsAnsweredAsItWas) {
  ASSERT_EQ(forgotten(fs().mkdir(dir_, "d", 0755, {.request = 2})), 0);
  EXPECT_EQ(forgotten(fs().mkdir(dir_, "d", 0755, {.request = 2, .resent = true})), 0);
  EXPECT_EQ(forgotten(fs().mkdir(dir_, "d", 0755, {.request = 4, .resent = true})), EEXIST);
  ASSERT_EQ(code(fs().unlink(dir_, "file", {.request = 6})), 0);
  EXPECT_EQ(code(fs().unlink(dir_, "file", {.request = 6, .resent = true})), 0);
  ASSERT_EQ(code(fs().rename(dir_, "link", dir_, "l2", 0, {.request = 8})), 0);
  EXPECT_EQ(code(fs().rename(dir_, "link", dir_, "l2", 0, {.request = 8, .resent = true})), 0);
  ASSERT_EQ(forgotten(fs().link(ino("dir/l2"), dir_, "l3", {.request = 10})), 0);
  EXPECT_EQ(forgotten(fs().link(ino("dir/l2"), dir_, "l3", {.request = 10, .resent = true})), 0);
  EXPECT_EQ(node("dir/l2").nlink, 2U);
  expect_sound();
}

TEST_F(Names, AChangeThatFailsLeavesEverythingAsItWas) {
  upper_->fail_apply = ENOSPC;
  EXPECT_EQ(make_dir("dir/x"), ENOSPC);
  EXPECT_EQ(unlink("dir/file"), ENOSPC);
  EXPECT_EQ(rename("dir", "x"), ENOSPC);
  EXPECT_EQ(link("dir/file", "x"), ENOSPC);
  upper_->fail_apply = 0;
  EXPECT_EQ(names("dir"), "file link sub");
  EXPECT_EQ(names(""), "dir empty");
  std::size_t changed = 0;
  upper_->for_each_changed([&](Ino, const tree::ChangedParts&) { return ++changed, true; });
  EXPECT_EQ(changed, 0U);
}

}  // namespace
}  // namespace layerfs::unionfs
