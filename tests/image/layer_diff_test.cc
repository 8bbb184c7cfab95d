// SPDX-License-Identifier: Apache-2.0
#include "fs/image/layer_diff.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fs/base/sys_file.h"
#include "tests/image/upper_scene.h"

namespace layerfs::image {
namespace {

using testing::ElementsAre;

class LayerDiff : public UpperScene {
 protected:
  LayerDiff() {
    etc_ = lower_dir(kRoot, "etc");
    passwd_ = lower_file(etc_, "passwd", "root\n", {{"user.a", "1"}});
    lower_file(etc_, "group", "wheel\n");
    srv_ = lower_dir(kRoot, "srv");
    data_ = lower_dir(srv_, "data");
    lower_file(data_, "one", "1\n");
    lower_file(data_, "two", "2\n");
    deep_ = lower_dir(data_, "deep");
    lower_file(deep_, "file", "deep\n");
    lower_symlink(srv_, "link", "data/one");
    first_ = lower_file(srv_, "first", "linked\n");
    lower_.add_link(srv_, "second", first_);
    lower_.add_link(deep_, "third", first_);
  }

  Ino etc_, passwd_, srv_, data_, deep_, first_;
};

TEST_F(LayerDiff, NothingChangedIsAnEmptyTar) {
  EXPECT_EQ(layer_bytes(), std::string(1024, '\0'));
  EXPECT_EQ(counts_.entries, 0U);
}

TEST_F(LayerDiff, NewFileComesWithItsParents) {
  make_file(deep_, "new", "n\n");
  auto entries = layer();
  EXPECT_THAT(names_of(entries), ElementsAre("srv/", "srv/data/", "srv/data/deep/", "srv/data/deep/new"));
  EXPECT_EQ(entries[3].content, "n\n");
  EXPECT_EQ(entries[3].member.mtime.seconds, 200);
  EXPECT_EQ(entries[0].member.mtime.seconds, 100);
}

TEST_F(LayerDiff, ChangedAttributesOfATreeFileGiveTheWholeFile) {
  change(passwd_, [](Node& n) { n.mode = 0600; });
  auto entries = layer();
  EXPECT_THAT(names_of(entries), ElementsAre("etc/", "etc/passwd"));
  EXPECT_EQ(entries[1].member.mode, 0600);
  EXPECT_EQ(entries[1].content, "root\n");
  EXPECT_EQ(entries[1].member.xattrs, (tree::XattrList{{"user.a", "1"}}));
}

TEST_F(LayerDiff, TimesButMtimeAndLinkCountsAreNoChange) {
  change(passwd_, [](Node& n) {
    n.atime = {5000, 0};
    n.ctime = {5000, 0};
  });
  remove(srv_, "second");  // the others of the group only lose a link
  EXPECT_THAT(layer_names(), ElementsAre("srv/", "srv/.wh.second"));
}

TEST_F(LayerDiff, ChangedBackIsNoChange) {
  touch(passwd_, 7);
  touch(passwd_, 100);
  apply({tree::PutXattr{passwd_, "user.a", "1"}});
  EXPECT_EQ(layer_bytes(), std::string(1024, '\0'));
}

TEST_F(LayerDiff, XattrsAreThoseOfBoth) {
  apply({tree::PutXattr{passwd_, "user.b", "2"}});
  EXPECT_EQ(layer().at(1).member.xattrs, (tree::XattrList{{"user.a", "1"}, {"user.b", "2"}}));
  apply({tree::PutXattrTombstone{passwd_, "user.a"}});
  EXPECT_EQ(layer().at(1).member.xattrs, (tree::XattrList{{"user.b", "2"}}));
}

TEST_F(LayerDiff, RootIsThereOnlyWhereItChanged) {
  make_file(kRoot, "top", "t");
  EXPECT_THAT(layer_names(), ElementsAre("top"));
  touch(kRoot, 300);
  EXPECT_THAT(layer_names(), ElementsAre("./", "top"));
}

TEST_F(LayerDiff, WhiteoutsComeBeforeTheirSiblings) {
  remove(data_, "two");
  remove(etc_, "group");
  make_file(data_, "a", "new");
  make_file(etc_, "a", "new");
  EXPECT_THAT(layer_names(), ElementsAre("etc/", "etc/.wh.group", "etc/a", "srv/", "srv/data/",
                                         "srv/data/.wh.two", "srv/data/a"));
  EXPECT_EQ(counts_.whiteouts, 2U);
}

TEST_F(LayerDiff, RemovedDirectoryIsOneWhiteout) {
  remove(deep_, "file");
  remove(deep_, "third");
  remove(data_, "deep");
  EXPECT_THAT(layer_names(), ElementsAre("srv/", "srv/data/", "srv/data/.wh.deep"));
}

TEST_F(LayerDiff, DirectoryInPlaceOfAnotherWhitesOutEachOldName) {
  rename(srv_, "data", srv_, "gone");
  remove(srv_, "gone");
  Ino fresh = make_dir(srv_, "data");
  make_file(fresh, "two", "new two\n");
  auto entries = layer();
  EXPECT_THAT(names_of(entries),
              ElementsAre("srv/", "srv/data/", "srv/data/.wh.deep", "srv/data/.wh.one", "srv/data/two"));
}

TEST_F(LayerDiff, OtherKindAtAPathNeedsNoWhiteout) {
  remove(srv_, "link");
  make_dir(srv_, "link");
  remove(srv_, "data");
  make_file(srv_, "data", "was a directory");
  auto entries = layer();
  EXPECT_THAT(names_of(entries), ElementsAre("srv/", "srv/data", "srv/link/"));
  EXPECT_EQ(entries[1].member.type, TarType::kRegular);
}

TEST_F(LayerDiff, RenamedDirectoryIsAWhiteoutAndTheWholeSubtree) {
  rename(srv_, "data", etc_, "moved");
  auto entries = layer();
  // Of the group first/second/third, third has a new path: all three are there, linked (invariant 5).
  EXPECT_THAT(names_of(entries), ElementsAre("etc/", "etc/moved/", "etc/moved/deep/", "etc/moved/deep/file",
                                             "etc/moved/deep/third", "etc/moved/one", "etc/moved/two", "srv/",
                                             "srv/.wh.data", "srv/first", "srv/second"));
  EXPECT_EQ(entries[4].member.type, TarType::kRegular);
  EXPECT_EQ(entries[4].content, "linked\n");
  EXPECT_EQ(entries[9].member.link, "etc/moved/deep/third");
  EXPECT_EQ(entries[10].member.link, "etc/moved/deep/third");
}

TEST_F(LayerDiff, ChangeBelowARenamedDirectoryIsFoundAtItsNewPath) {
  rename(srv_, "data", kRoot, "moved");
  touch(find(deep_, "file"), 300);
  remove(data_, "one");
  auto entries = layer();
  auto file = std::find_if(entries.begin(), entries.end(),
                           [](const auto& e) { return e.member.name == "moved/deep/file"; });
  ASSERT_NE(file, entries.end());
  EXPECT_EQ(file->member.mtime.seconds, 300);
  EXPECT_THAT(names_of(entries), testing::Not(testing::Contains(testing::HasSubstr("one"))));
}

TEST_F(LayerDiff, RenamedFileIsAWhiteoutAndTheFile) {
  rename(data_, "one", data_, "uno");
  auto entries = layer();
  EXPECT_THAT(names_of(entries), ElementsAre("srv/", "srv/data/", "srv/data/.wh.one", "srv/data/uno"));
  EXPECT_EQ(entries[3].content, "1\n");
}

TEST_F(LayerDiff, ChangedInodeBringsAllItsNames) {
  touch(first_, 300);
  auto entries = layer();
  EXPECT_THAT(names_of(entries), ElementsAre("srv/", "srv/data/", "srv/data/deep/", "srv/data/deep/third",
                                             "srv/first", "srv/second"));
  EXPECT_EQ(entries[3].member.mtime.seconds, 300);
  EXPECT_EQ(entries[3].content, "linked\n");
  EXPECT_EQ(entries[4].member.link, "srv/data/deep/third");
  EXPECT_EQ(entries[5].member.link, "srv/data/deep/third");
}

TEST_F(LayerDiff, ChangedInodeBringsOnlyTheNamesThatAreLeft) {
  remove(srv_, "first");
  touch(first_, 300);
  EXPECT_THAT(layer_names(), ElementsAre("srv/", "srv/.wh.first", "srv/data/", "srv/data/deep/",
                                         "srv/data/deep/third", "srv/second"));
}

TEST_F(LayerDiff, NewLinkToATreeFileBringsItsOldName) {
  link(passwd_, srv_, "alias");
  auto entries = layer();
  EXPECT_THAT(names_of(entries), ElementsAre("etc/", "etc/passwd", "srv/", "srv/alias"));
  EXPECT_EQ(entries[1].content, "root\n");
  EXPECT_EQ(entries[3].member.type, TarType::kHardLink);
  EXPECT_EQ(entries[3].member.link, "etc/passwd");
}

TEST_F(LayerDiff, NewLinkedFilesAreOneFile) {
  Ino made = make_file(etc_, "x", "content");
  link(made, srv_, "y");
  auto entries = layer();
  EXPECT_THAT(names_of(entries), ElementsAre("etc/", "etc/x", "srv/", "srv/y"));
  EXPECT_EQ(entries[3].member.link, "etc/x");
}

TEST_F(LayerDiff, ChangedSymlinkKeepsItsText) {
  Ino ino = find(srv_, "link");
  change(ino, [](Node& n) { n.uid = tree::Uid{1000}; });
  auto entries = layer();
  EXPECT_THAT(names_of(entries), ElementsAre("srv/", "srv/link"));
  EXPECT_EQ(entries[1].member.link, "data/one");
  EXPECT_EQ(entries[1].member.uid, 1000U);
}

TEST_F(LayerDiff, NewSymlinkHasItsText) {
  Node made = node_of(NodeKind::kSymlink, 0777, 200);
  made.content = tree::ContentKind::kInline;
  made.size = 3;
  make(etc_, "new", made, "xyz");
  EXPECT_EQ(layer().at(1).member.link, "xyz");
}

TEST_F(LayerDiff, DirectoryWithChangedAttributesComesAlone) {
  change(data_, [](Node& n) { n.mode = 01777; });
  auto entries = layer();
  EXPECT_THAT(names_of(entries), ElementsAre("srv/", "srv/data/"));
  EXPECT_EQ(entries[1].member.mode, 01777);
}

TEST_F(LayerDiff, FilesOfTheDataFileAndTheObjectBelowAreOne) {
  Ino ino = find(data_, "one");
  std::string below(200000, 'b');
  Node changed = file_node(below, 300);
  changed.content = tree::ContentKind::kData;
  changed.base_size = 150000;
  changed.size = 180000;
  auto file = upper_->create_data(ino).value();
  ASSERT_TRUE(pwrite_full(file->get(), as_bytes("XYZ"), 1000));
  apply({tree::PutNode{ino, changed}, tree::AddExtent{ino, 1000, 3}, tree::AddExtent{ino, 170000, 5000}});
  std::string wanted = below.substr(0, 150000) + std::string(30000, '\0');
  wanted.replace(1000, 3, "XYZ");
  auto entries = layer();
  ASSERT_EQ(entries.size(), 3U);
  EXPECT_EQ(entries[2].content, wanted);
}

TEST_F(LayerDiff, MostlyHolesAreSparseWhereverTheZerosAre) {
  constexpr std::uint64_t kSize = 8 << 20;
  auto make_data = [&](const std::string& name, bool written_zeros) {
    Node made = node_of(NodeKind::kRegular, 0644, 200);
    made.content = tree::ContentKind::kData;
    made.size = kSize;
    Ino ino = make(kRoot, name, made, {});
    auto file = upper_->create_data(ino).value();
    if (written_zeros) {
      EXPECT_TRUE(pwrite_full(file->get(), as_bytes(std::string(kSize, '\0')), 0));
    }
    EXPECT_TRUE(pwrite_full(file->get(), as_bytes("island"), (1 << 20) + 5));
    return ino;
  };
  make_data("holes", false);
  make_data("zeros", true);
  auto entries = layer();
  ASSERT_EQ(entries.size(), 2U);
  for (const auto& entry : entries) {
    EXPECT_TRUE(entry.member.is_sparse) << entry.member.name;
    EXPECT_EQ(entry.member.extents, (SparseMap{{1 << 20, 4096}})) << entry.member.name;
    EXPECT_EQ(entry.content.size(), kSize);
    EXPECT_EQ(entry.content.substr((1 << 20) + 5, 6), "island");
  }
  EXPECT_LT(layer_bytes().size(), std::size_t{32768});
}

TEST_F(LayerDiff, WhiteoutNamesAreRefusedByName) {
  Ino dir = make_dir(srv_, "d");
  make_file(dir, ".wh.name", "x");
  auto written =
      write_layer_diff(lower_, *upper_, blobs_, [](std::string_view) -> Result<void> { return {}; });
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().kind, ErrorKind::kInvalid);
  EXPECT_NE(written.error().message().find("srv/d/.wh.name"), std::string::npos) << written.error().message();
}

TEST_F(LayerDiff, SocketsAreLeftOut) {
  make(etc_, "sock", node_of(NodeKind::kSocket, 0755, 200), {});
  remove(etc_, "group");
  make(etc_, "group", node_of(NodeKind::kSocket, 0755, 200), {});
  EXPECT_THAT(layer_names(), ElementsAre("etc/", "etc/.wh.group"));
  EXPECT_EQ(counts_.sockets, 2U);
}

TEST_F(LayerDiff, LeftoversOfARemovedDirectoryLeadNowhere) {
  // As the union leaves them: tombstones in a directory whose own entry is gone.
  remove(deep_, "file");
  remove(deep_, "third");
  touch(deep_, 400);
  remove(data_, "deep");
  apply({tree::EraseNode{deep_}});
  EXPECT_THAT(layer_names(), ElementsAre("srv/", "srv/data/", "srv/data/.wh.deep"));
}

TEST_F(LayerDiff, ErrorOfTheSinkIsReturned) {
  make_file(etc_, "x", "x");
  auto written = write_layer_diff(lower_, *upper_, blobs_,
                                  [](std::string_view) -> Result<void> { return errno_error(ENOSPC); });
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, ENOSPC);
}

TEST_F(LayerDiff, MissingObjectNamesTheFile) {
  Node made = file_node("here", 200);
  made.object = Digest{};
  made.object.bytes[0] = 7;
  make(etc_, "broken", made, {});
  auto written =
      write_layer_diff(lower_, *upper_, blobs_, [](std::string_view) -> Result<void> { return {}; });
  ASSERT_FALSE(written);
  EXPECT_NE(written.error().message().find("etc/broken"), std::string::npos) << written.error().message();
}

TEST_F(LayerDiff, OrderOfTheChangesDoesNotMatter) {
  make_file(etc_, "a", "1");
  remove(data_, "one");
  touch(first_, 300);
  std::string one = layer_bytes();
  upper_ = upper::make_memory_upper();
  touch(first_, 300);
  make_file(etc_, "tmp", "1");
  rename(etc_, "tmp", etc_, "a");
  remove(data_, "one");
  EXPECT_EQ(layer_bytes(), one);
}

}  // namespace
}  // namespace layerfs::image
