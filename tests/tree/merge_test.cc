// SPDX-License-Identifier: Apache-2.0
// The merge rules of fs/tree/merge.h, one sentence each. Yardstick: what an overlay of the unpacked layers
// shows.
#include "fs/tree/merge.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "tests/base/time_bound.h"

namespace layerfs::tree {
namespace {

class RecordList final : public LayerRecords {
 public:
  RecordList& dir(const std::string& path, std::uint16_t mode = 0755) {
    return add(path, NodeKind::kDirectory, mode);
  }
  /// Regular files are told apart by their size.
  RecordList& file(const std::string& path, std::uint64_t size = 1) {
    add(path, NodeKind::kRegular, 0644);
    records_.back().node.size = size;
    return *this;
  }
  RecordList& symlink(const std::string& path, const std::string& target) {
    add(path, NodeKind::kSymlink, 0777);
    records_.back().target = target;
    return *this;
  }
  RecordList& special(const std::string& path, RecordKind kind, const std::string& target = {}) {
    LayerRecord record;
    record.kind = kind;
    record.path = path;
    record.target = target;
    records_.push_back(record);
    return *this;
  }
  RecordList& hard_link(const std::string& path, const std::string& target) {
    return special(path, RecordKind::kHardLink, target);
  }
  RecordList& whiteout(const std::string& path) { return special(path, RecordKind::kWhiteout); }
  RecordList& opaque(const std::string& path) { return special(path, RecordKind::kOpaque); }
  RecordList& node(const std::string& path, NodeKind kind) { return add(path, kind, 0644); }
  RecordList& with_xattr(const std::string& name, const std::string& value) {
    records_.back().xattrs.emplace_back(name, value);
    return *this;
  }
  RecordList& at_time(std::int64_t seconds) {
    records_.back().node.mtime.seconds = seconds;
    return *this;
  }

  Result<void> for_each(FunctionRef<Result<void>(const LayerRecord&)> visit) const override {
    for (const LayerRecord& record : records_) LAYERFS_TRY(visit(record));
    return {};
  }

 private:
  RecordList& add(const std::string& path, NodeKind kind, std::uint16_t mode) {
    LayerRecord record;
    record.path = path;
    record.node.kind = kind;
    record.node.mode = mode;
    records_.push_back(record);
    return *this;
  }
  std::vector<LayerRecord> records_;
};

class Merge : public ::testing::Test {
 protected:
  void apply(const RecordList& layer) {
    auto done = merge_layer(tree_, layer);
    ASSERT_TRUE(done.has_value()) << done.error().message();
  }
  std::string refusal(const RecordList& layer) {
    auto done = merge_layer(tree_, layer);
    return done ? "not refused" : done.error().message();
  }
  /// By path without following links.
  std::optional<Entry> find(const std::string& path) const {
    Entry at{kRootIno, *tree_.find_node(kRootIno).value()};
    std::size_t begin = 0;
    while (begin < path.size()) {
      std::size_t end = std::min(path.find('/', begin), path.size());
      auto next = tree_.find_entry(at.ino, path.substr(begin, end - begin)).value();
      if (!next) return std::nullopt;
      at = *next;
      begin = end + 1;
    }
    return at;
  }
  std::uint64_t size_of(const std::string& path) const {
    auto found = find(path);
    return found ? found->node.size : ~std::uint64_t{0};
  }
  std::string names_in(const std::string& path) const {
    std::vector<std::string> names;
    EXPECT_TRUE(tree_.list_entries(find(path)->ino, kDirStart, [&](const EntryView& entry) {
      names.emplace_back(entry.name);
      return true;
    }));
    std::sort(names.begin(), names.end());
    std::string all;
    for (const auto& name : names) all += (all.empty() ? "" : " ") + name;
    return all;
  }
  MemoryTree tree_;
};

TEST_F(Merge, WhiteoutHidesALowerFileAndNothingElse) {
  apply(RecordList().dir("d").file("d/a").file("d/b"));
  apply(RecordList().whiteout("d/a"));
  EXPECT_EQ(names_in("d"), "b");
}

TEST_F(Merge, WhiteoutHidesALowerDirectoryWithAllBelowIt) {
  apply(RecordList().dir("d").dir("d/e").file("d/e/f"));
  std::size_t before = tree_.node_count();
  apply(RecordList().whiteout("d"));
  EXPECT_FALSE(find("d"));
  EXPECT_EQ(tree_.node_count(), before - 3);
  EXPECT_EQ(find("")->node.nlink, 2U);
}

TEST_F(Merge, WhiteoutAfterAnEntryOfTheSameLayerLeavesTheEntry) {
  apply(RecordList().file("a", 1));
  apply(RecordList().file("a", 2).whiteout("a"));
  EXPECT_EQ(size_of("a"), 2U);
}

TEST_F(Merge, WhiteoutOfNothingIsHarmless) {
  apply(RecordList().dir("d").file("f"));
  apply(RecordList().whiteout("d/x").whiteout("no/such/dir/x").whiteout("f/x").opaque("nothing"));
  EXPECT_EQ(names_in(""), "d f");
}

TEST_F(Merge, OpaqueHidesLowerChildrenWhereverItStands) {
  apply(RecordList().dir("d").file("d/old").file("d/both", 1));
  apply(RecordList().dir("d").file("d/both", 2).file("d/new").opaque("d"));
  EXPECT_EQ(names_in("d"), "both new");
  EXPECT_EQ(size_of("d/both"), 2U);
}

TEST_F(Merge, OpaqueRootHidesEverythingBelow) {
  apply(RecordList().dir("d").file("f"));
  apply(RecordList().opaque("").file("g"));
  EXPECT_EQ(names_in(""), "g");
  EXPECT_EQ(find("")->node.nlink, 2U);
}

TEST_F(Merge, OpaqueMarkOfADirectoryThatReplacesALinkLeavesTheLinksTarget) {
  apply(RecordList().dir("usr").dir("usr/lib").file("usr/lib/libc").symlink("lib", "usr/lib"));
  apply(RecordList().dir("lib").opaque("lib").whiteout("lib/libc").file("lib/new"));
  EXPECT_EQ(names_in("usr/lib"), "libc");
  EXPECT_EQ(names_in("lib"), "new");
}

TEST_F(Merge, MarksAreNotLedElsewhereByALink) {
  apply(
      RecordList().dir("usr").dir("usr/lib").file("usr/lib/a").file("usr/lib/b").symlink("lib", "/usr/lib"));
  apply(RecordList().whiteout("lib/a").opaque("lib"));
  EXPECT_EQ(names_in("usr/lib"), "a b");
  EXPECT_EQ(find("lib")->node.kind, NodeKind::kSymlink);
}

TEST_F(Merge, WhiteoutOfALinkBesideAWhiteoutThroughIt) {
  apply(RecordList().dir("d").file("d/x").symlink("l", "d"));
  apply(RecordList().whiteout("l").whiteout("l/x"));
  EXPECT_FALSE(find("l"));
  EXPECT_EQ(names_in("d"), "x");
  apply(RecordList().dir("e").file("e/x").file("e/y"));
  apply(RecordList().whiteout("e/x").whiteout("e"));
  EXPECT_FALSE(find("e"));
}

TEST_F(Merge, MarksAreAllFoundBeforeTheFirstIsCarriedOut) {
  apply(RecordList().dir("d").dir("d/e").file("d/e/f"));
  apply(RecordList().whiteout("d").whiteout("d/e/f").opaque("d/e"));
  EXPECT_FALSE(find("d"));
}

TEST_F(Merge, EntryBelowALowerLinkMakesADirectoryInItsPlace) {
  for (const char* target : {"usr/lib", "/usr/lib", "nowhere", "lib"}) {
    tree_ = MemoryTree();
    apply(RecordList().dir("usr").dir("usr/lib").file("usr/lib/libc").symlink("lib", target));
    apply(RecordList().file("lib/new", 7).file("lib/sub/newer", 8));
    EXPECT_EQ(names_in("usr/lib"), "libc") << target;
    EXPECT_EQ(find("lib")->node.kind, NodeKind::kDirectory) << target;
    EXPECT_EQ(names_in("lib"), "new sub") << target;
    EXPECT_EQ(size_of("lib/sub/newer"), 8U) << target;
  }
}

TEST_F(Merge, EntryBelowAnAbsoluteOrRelativeLowerLinkInASubdirectory) {
  apply(RecordList()
            .dir("run")
            .file("run/keep")
            .dir("var")
            .symlink("var/run", "/run")
            .symlink("var/r", "../run"));
  apply(RecordList().file("var/run/x", 3).file("var/r/y", 4));
  EXPECT_EQ(names_in("run"), "keep");
  EXPECT_EQ(names_in("var/run"), "x");
  EXPECT_EQ(names_in("var/r"), "y");
  EXPECT_EQ(find("var")->node.nlink, 4U);
}

TEST_F(Merge, EntryBelowSomethingElseOfALowerLayerMakesADirectoryInItsPlace) {
  for (NodeKind kind : {NodeKind::kRegular, NodeKind::kFifo, NodeKind::kCharDevice, NodeKind::kBlockDevice,
                        NodeKind::kSocket}) {
    tree_ = MemoryTree();
    apply(RecordList().node("a", kind).hard_link("other", "a").file("keep"));
    apply(RecordList().file("a/b/c", 9).at_time(1234));
    EXPECT_EQ(names_in(""), "a keep other");
    EXPECT_EQ(find("a")->node.kind, NodeKind::kDirectory);
    EXPECT_EQ(find("a")->node.mode, 0755);
    EXPECT_EQ(find("a")->node.mtime.seconds, 1234);
    EXPECT_EQ(size_of("a/b/c"), 9U);
    EXPECT_EQ(find("other")->node.kind, kind);
    EXPECT_EQ(find("other")->node.nlink, 1U);
  }
}

TEST_F(Merge, EntryThroughALinkOfItsOwnLayerLandsInItsTarget) {
  apply(RecordList().dir("usr").dir("usr/lib").dir("run").dir("var"));
  apply(RecordList()
            .symlink("lib", "usr/lib")
            .file("lib/new", 7)
            .symlink("var/run", "/run")
            .file("var/run/x", 5));
  EXPECT_EQ(size_of("usr/lib/new"), 7U);
  EXPECT_EQ(find("lib")->node.kind, NodeKind::kSymlink);
  EXPECT_EQ(size_of("run/x"), 5U);
  EXPECT_EQ(names_in("var"), "run");
}

TEST_F(Merge, LinksCannotLeaveTheRoot) {
  apply(RecordList().dir("etc").dir("d"));
  apply(RecordList()
            .symlink("d/up", "../../../../etc")
            .symlink("abs", "/etc")
            .file("d/up/a", 3)
            .file("abs/b", 4));
  EXPECT_EQ(size_of("etc/a"), 3U);
  EXPECT_EQ(size_of("etc/b"), 4U);
}

TEST_F(Merge, DanglingLinkOfItsOwnLayerAsAParentMakesItsTarget) {
  apply(RecordList().symlink("l", "x/y").file("l/f", 5));
  EXPECT_EQ(size_of("x/y/f"), 5U);
}

TEST_F(Merge, MissingStepsBeforeDotDotAreNotMade) {
  apply(RecordList().symlink("l", "gone/../x").file("l/f", 5));
  EXPECT_EQ(names_in(""), "l x");
}

TEST_F(Merge, LoopOfLinksIsRefusedByName) {
  EXPECT_NE(refusal(RecordList().symlink("a", "b").symlink("b", "a").file("a/f")).find("'a/f'"),
            std::string::npos);
}

TEST_F(Merge, FortyLinksAreFollowed) {
  RecordList links;
  links.dir("end");
  for (int i = 0; i < 40; ++i)
    links.symlink("l" + std::to_string(i), i == 39 ? "end" : "l" + std::to_string(i + 1));
  links.file("l0/f", 9);
  apply(links);
  EXPECT_EQ(size_of("end/f"), 9U);
  tree_ = MemoryTree();
  EXPECT_NE(refusal(links.symlink("more", "l0").file("more/f")).find("too many levels"), std::string::npos);
}

TEST_F(Merge, StepsThroughLinksAreBounded) {
  // A chain of links whose targets are as long as they may be: each walk through it is 80,000 steps.
  RecordList links;
  links.dir("a").dir("d");
  for (int i = 0; i < 39; ++i) {
    std::string target;
    for (int step = 0; step < 1000; ++step) target += "a/../";
    links.symlink("l" + std::to_string(i), target + (i == 0 ? "d" : "l" + std::to_string(i - 1)));
  }
  RecordList same_parent = links;
  for (int i = 0; i < 100'000; ++i) same_parent.file("l38/" + std::to_string(i));
  apply(same_parent);
  EXPECT_EQ(find("d")->node.nlink, 2U);
  EXPECT_TRUE(find("d/99999"));

  for (int i = 0; i < 100'000; ++i) links.file("l38/" + std::to_string(i) + "/f");
  tree_ = MemoryTree();
  EXPECT_NE(refusal(links).find("too many steps"), std::string::npos);
}

TEST_F(Merge, ManyWhiteoutsThroughLowerLinksCostNothing) {
  RecordList lower;
  lower.dir("a").dir("d");
  for (int i = 0; i < 39; ++i) {
    std::string target;
    for (int step = 0; step < 1000; ++step) target += "a/../";
    lower.symlink("l" + std::to_string(i), target + (i == 0 ? "d" : "l" + std::to_string(i - 1)));
  }
  apply(lower);
  RecordList marks;
  for (int i = 0; i < 100'000; ++i) marks.whiteout("l38/" + std::to_string(i) + "/x").opaque("l38");
  apply(marks);
  EXPECT_EQ(names_in("d"), "");
}

TEST_F(Merge, DirectoriesThatAreOnlyImpliedAreCounted) {
  std::string deep = "0";
  for (int i = 0; i < 99; ++i) deep += "/" + std::to_string(i);
  MergeLimits limits{.made_parents = 150};
  EXPECT_TRUE(merge_layer(tree_, RecordList().file(deep + "/f").file(deep + "/g").file("x/y/z"), limits));
  tree_ = MemoryTree();
  auto refused = merge_layer(tree_, RecordList().file(deep + "/f").file("other/" + deep + "/f"), limits);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("more than 150 directories"), std::string::npos);
}

TEST_F(Merge, NodesOfTheWholeTreeAreCounted) {
  MergeLimits limits{.nodes = 4};  // the root is one
  EXPECT_TRUE(merge_layer(tree_, RecordList().file("a").file("b"), limits));
  EXPECT_TRUE(merge_layer(tree_, RecordList().file("a", 2).file("c"), limits));
  auto refused = merge_layer(tree_, RecordList().file("d"), limits);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("more than 4 files"), std::string::npos);
}

TEST_F(Merge, AlternatingLinksAndManyParentsStayLinear) {
  RecordList layer;
  for (int i = 0; i < 100'000; ++i) layer.file(std::to_string(i) + "/f");
  for (int i = 0; i < 100'000; ++i) layer.symlink("l", std::to_string(i));
  const ProcessorTimer timer;
  apply(layer);
  EXPECT_LT(timer.elapsed(), patience(std::chrono::seconds(10)));
}

TEST_F(Merge, HardLinkOverADirectoryTakesItAwayWithWhatThePathsThroughItMeant) {
  apply(RecordList().file("f", 3));
  EXPECT_NE(refusal(RecordList().dir("d").file("d/a").hard_link("d", "f").file("d/b").dir("e")),
            "not refused");
  tree_ = MemoryTree();
  apply(RecordList().dir("x").symlink("l", "x").dir("d").file("d/a").hard_link("d", "l").file("d/b", 2));
  EXPECT_EQ(find("d")->node.kind, NodeKind::kSymlink);
  EXPECT_EQ(names_in("x"), "b");
}

TEST_F(Merge, FileOfItsOwnLayerAsAParentIsRefusedByName) {
  EXPECT_NE(refusal(RecordList().file("f").file("f/x")).find("'f/x'"), std::string::npos);
}

TEST_F(Merge, MissingParentIsADirectoryOfRootWithTheTimeOfTheEntry) {
  apply(RecordList().file("a/b/c").at_time(1234));
  auto made = find("a/b");
  ASSERT_TRUE(made);
  EXPECT_EQ(made->node.kind, NodeKind::kDirectory);
  EXPECT_EQ(made->node.mode, 0755);
  EXPECT_EQ(made->node.mtime.seconds, 1234);
  EXPECT_EQ(to_number(made->node.uid), 0U);
}

TEST_F(Merge, DirectoryOverDirectoryTakesAttributesAndKeepsChildren) {
  apply(RecordList().dir("d", 0755).with_xattr("user.old", "1").file("d/f"));
  Ino before = find("d")->ino;
  apply(RecordList().dir("d", 0700).with_xattr("user.new", "2"));
  auto after = find("d");
  EXPECT_EQ(after->ino, before);
  EXPECT_EQ(after->node.mode, 0700);
  EXPECT_EQ(names_in("d"), "f");
  EXPECT_FALSE(tree_.find_xattr(after->ino, "user.old").value());
  EXPECT_EQ(tree_.find_xattr(after->ino, "user.new").value(), "2");
}

TEST_F(Merge, EntryOfAnotherKindReplacesWhatIsThere) {
  apply(RecordList().dir("d").file("d/f").file("g").symlink("l", "d"));
  apply(RecordList().file("d", 2).dir("g").dir("l"));
  EXPECT_EQ(find("d")->node.kind, NodeKind::kRegular);
  EXPECT_EQ(find("g")->node.kind, NodeKind::kDirectory);
  EXPECT_EQ(find("l")->node.kind, NodeKind::kDirectory);
  EXPECT_EQ(find("")->node.nlink, 4U);
}

TEST_F(Merge, LastEntryOfAPathCounts) {
  apply(RecordList().file("a", 1).dir("a").file("a", 3));
  EXPECT_EQ(size_of("a"), 3U);
}

TEST_F(Merge, FileOverAHardLinkedFileLeavesTheOtherName) {
  apply(RecordList().file("a", 1).hard_link("b", "a"));
  EXPECT_EQ(find("a")->node.nlink, 2U);
  apply(RecordList().file("a", 2));
  EXPECT_EQ(size_of("b"), 1U);
  EXPECT_EQ(find("b")->node.nlink, 1U);
}

TEST_F(Merge, HardLinkToALowerFileSharesItsNumber) {
  apply(RecordList().file("a", 1));
  apply(RecordList().hard_link("d/b", "a"));
  EXPECT_EQ(find("d/b")->ino, find("a")->ino);
}

TEST_F(Merge, HardLinkThroughALinkedParentFindsItsTarget) {
  apply(RecordList().dir("usr").dir("usr/lib").file("usr/lib/a", 6).symlink("lib", "usr/lib"));
  apply(RecordList().hard_link("x", "lib/a"));
  EXPECT_EQ(size_of("x"), 6U);
}

TEST_F(Merge, HardLinkToASymlinkIsTheSymlink) {
  apply(RecordList().file("f").symlink("l", "f").hard_link("m", "l"));
  EXPECT_EQ(find("m")->ino, find("l")->ino);
  EXPECT_EQ(find("m")->node.kind, NodeKind::kSymlink);
}

TEST_F(Merge, HardLinkOntoItselfChangesNothing) {
  apply(RecordList().file("a", 1).hard_link("a", "a"));
  EXPECT_EQ(size_of("a"), 1U);
  EXPECT_EQ(find("a")->node.nlink, 1U);
}

TEST_F(Merge, HardLinkToNothingToADirectoryOrIntoWhatItReplacesIsRefused) {
  apply(RecordList().dir("d").file("d/f"));
  EXPECT_NE(refusal(RecordList().hard_link("x", "no")).find("'x'"), std::string::npos);
  EXPECT_NE(refusal(RecordList().hard_link("x", "no/way")).find("not there"), std::string::npos);
  EXPECT_NE(refusal(RecordList().hard_link("x", "d")).find("directory"), std::string::npos);
  EXPECT_NE(refusal(RecordList().hard_link("d", "d/f")).find("replaces"), std::string::npos);
}

TEST_F(Merge, RootTakesAttributesAndCanOnlyBeADirectory) {
  apply(RecordList().file("f").dir("", 0711));
  EXPECT_EQ(find("")->node.mode, 0711);
  EXPECT_EQ(names_in(""), "f");
  EXPECT_NE(refusal(RecordList().symlink("", "f")), "not refused");
}

TEST_F(Merge, SymlinkKeepsItsTextAndItsLength) {
  apply(RecordList().symlink("l", "some/where"));
  EXPECT_EQ(tree_.get_inline(find("l")->ino).value(), "some/where");
  EXPECT_EQ(find("l")->node.size, 10U);
}

TEST_F(Merge, LinkThatReplacesAKnownParentIsFollowedAfterwards) {
  apply(RecordList().dir("x").dir("d").file("d/a").symlink("d", "x").file("d/b", 2));
  EXPECT_EQ(size_of("x/b"), 2U);
}

TEST_F(Merge, NumbersOfALowerTreeStayInATreeMergedFromIt) {
  apply(RecordList().dir("d").file("d/a").hard_link("b", "d/a").symlink("l", "d").with_xattr("user.x", "y"));
  auto copy = MemoryTree::copy_of(tree_);
  ASSERT_TRUE(copy);
  Ino file = find("d/a")->ino;
  Ino most = tree_.max_ino();
  tree_ = std::move(*copy);
  EXPECT_EQ(find("d/a")->ino, file);
  EXPECT_EQ(find("b")->ino, file);
  EXPECT_EQ(find("b")->node.nlink, 2U);
  EXPECT_EQ(tree_.get_inline(find("l")->ino).value(), "d");
  EXPECT_EQ(tree_.find_xattr(find("l")->ino, "user.x").value(), "y");
  apply(RecordList().file("new"));
  EXPECT_GT(find("new")->ino, most);
}

TEST_F(Merge, DeepTreeIsRemovedWithoutRecursion) {
  RecordList deep;
  std::string path = "0";
  for (int i = 0; i < 2000; ++i) deep.dir(path += "/0");
  apply(deep);
  apply(RecordList().whiteout("0"));
  EXPECT_EQ(tree_.node_count(), 1U);
}

TEST(MemoryTree, ListsInCookieOrderFromAnyCookie) {
  MemoryTree tree;
  for (int i = 0; i < 50; ++i) tree.add_node(kRootIno, "n" + std::to_string(i), Node{}, {}, {});
  std::vector<DirCookie> cookies;
  ASSERT_TRUE(tree.list_entries(kRootIno, kDirStart, [&](const EntryView& entry) {
    EXPECT_EQ(entry.cookie, name_cookie(entry.name));
    cookies.push_back(entry.cookie);
    return true;
  }));
  ASSERT_EQ(cookies.size(), 50U);
  EXPECT_TRUE(std::is_sorted(cookies.begin(), cookies.end()));
  std::size_t rest = 0;
  ASSERT_TRUE(tree.list_entries(kRootIno, cookies[19], [&](const EntryView&) { return ++rest, true; }));
  EXPECT_EQ(rest, 30U);
}

TEST(MemoryTree, KeepsTheLaterOfTwoXattrsOfOneName) {
  MemoryTree tree;
  Ino ino = tree.add_node(kRootIno, "f", Node{}, {}, {{"user.b", "1"}, {"user.a", "x"}, {"user.b", "2"}});
  std::string seen;
  ASSERT_TRUE(tree.list_xattrs(ino, [&](std::string_view name, std::string_view value) {
    seen.append(name).append("=").append(value).append(" ");
    return true;
  }));
  EXPECT_EQ(seen, "user.a=x user.b=2 ");
}

}  // namespace
}  // namespace layerfs::tree
