// SPDX-License-Identifier: Apache-2.0
// What every UpperLayer does, as tests. An implementation registers a maker of an empty one
// (INSTANTIATE_TEST_SUITE_P(Name, UpperLayerContract, testing::Values(maker))).
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "fs/base/bytes.h"
#include "fs/base/sha256.h"
#include "fs/base/sys_file.h"
#include "fs/tree/upper_layer.h"

namespace layerfs::tree {

struct UpperUnderTest {
  std::shared_ptr<void> keeper;  ///< what it lives on (a directory); destroyed last
  std::shared_ptr<UpperLayer> upper;
  /// Closes `upper` and opens the same again. Null where nothing outlives the object.
  std::function<void(UpperUnderTest&)> reopen;
};
using UpperMaker = std::function<UpperUnderTest()>;

class UpperLayerContract : public testing::TestWithParam<UpperMaker> {
 protected:
  UpperLayerContract() : under_test_(GetParam()()) {}
  UpperLayer& upper() { return *under_test_.upper; }

  template <class... Changes>
  void apply(Changes... changes) {
    ChangeSet set;
    (set.changes.emplace_back(std::move(changes)), ...);
    auto done = upper().apply(set);
    ASSERT_TRUE(done.has_value()) << done.error().message();
  }
  // A node with something in every field.
  static Node full_node(std::uint32_t number = 0) {
    Node node;
    node.kind = NodeKind::kRegular;
    node.content = ContentKind::kData;
    node.mode = 04755;
    node.uid = Uid{1000 + number};
    node.gid = Gid{100 + number};
    node.nlink = 3 + number;
    node.size = 123456789012 + number;
    node.rdev = 0x801;
    node.mtime = {-5, 999'999'999};
    node.ctime = {1'700'000'000, 1};
    node.atime = {4'000'000'000, 7};
    node.parent = Ino{77};
    node.object = sha256("object");
    node.base_size = 4096;
    return node;
  }
  static Node plain_node(NodeKind kind = NodeKind::kRegular) {
    Node node;
    node.kind = kind;
    node.mode = 0644;
    return node;
  }
  struct Listed {
    DirCookie cookie;
    std::string name;
    EntryState state;
    Ino ino;
  };
  std::vector<Listed> list(Ino dir, DirCookie after = kDirStart) {
    std::vector<Listed> all;
    upper().list_entries(dir, after, [&](const UpperEntryView& entry) {
      all.push_back({entry.cookie, std::string(entry.name), entry.state, entry.ino});
      return true;
    });
    return all;
  }
  std::string xattrs(Ino ino) {
    std::string all;
    upper().list_xattrs(ino, [&](std::string_view name, XattrState state, std::string_view value) {
      all.append(name).append(state == XattrState::kTombstone ? "!" : "=").append(value).append(" ");
      return true;
    });
    return all;
  }
  std::string changed() {
    std::string all;
    upper().for_each_changed([&](Ino ino, const ChangedParts& parts) {
      all += std::to_string(to_number(ino)) + (parts.node ? "n" : "") + (parts.entries ? "e" : "") +
             (parts.xattrs ? "x" : "") + " ";
      return true;
    });
    return all;
  }
  static std::string content(const Fd& file) {
    std::string bytes(static_cast<std::size_t>(stat_fd(file.get())->st_size), '\0');
    EXPECT_TRUE(pread_full(file.get(), std::as_writable_bytes(std::span(bytes)), 0));
    return bytes;
  }
  static constexpr Ino kFile{5};
  static constexpr Ino kDir{9};

  UpperUnderTest under_test_;
};

TEST_P(UpperLayerContract, AnEmptyOneHasNothing) {
  EXPECT_FALSE(upper().find_node(kFile));
  EXPECT_EQ(upper().find_entry(kDir, "a").state, EntryState::kAbsent);
  EXPECT_TRUE(list(kDir).empty());
  EXPECT_EQ(xattrs(kFile), "");
  EXPECT_EQ(upper().get_inline(kFile).error().code, ENOENT);
  EXPECT_EQ(upper().open_data(kFile).error().code, ENOENT);
  EXPECT_TRUE(upper().extents(kFile).empty());
  EXPECT_TRUE(upper().orphans().empty());
  EXPECT_EQ(changed(), "");
  EXPECT_FALSE(upper().read_only());
}

TEST_P(UpperLayerContract, NeighboursInASharedFileKeepToTheirPlaces) {
  auto bytes_of = [](char letter) { return std::string(kSharedLimit, letter); };
  auto read_place = [&](Ino ino) {
    auto place = upper().open_shared(ino);
    if (!place) return "error: " + place.error().message();
    std::string bytes(kSharedLimit, '?');
    auto count = pread_full(place->fd(), std::as_writable_bytes(std::span(bytes)), place->offset);
    bytes.resize(count.value_or(0));
    return bytes;
  };
  Node node = plain_node();
  node.content = ContentKind::kShared;
  node.size = kSharedLimit;
  for (std::uint64_t number = 62; number < 68; ++number) {
    auto place = upper().create_shared(Ino{number});
    ASSERT_TRUE(place) << place.error().message();
    EXPECT_EQ(place->limit, kSharedLimit);
    std::string bytes = bytes_of(static_cast<char>('A' + number % 26));
    ASSERT_TRUE(pwrite_full(place->fd(), as_bytes(bytes), place->offset));
    apply(PutNode{Ino{number}, node});
  }
  // One is erased, one gets a file of its own, one is tried and not put, twice.
  apply(EraseNode{Ino{63}});
  Node own = node;
  own.content = ContentKind::kData;
  ASSERT_TRUE(upper().create_data(Ino{65}));
  apply(PutNode{Ino{65}, own});
  for (int i = 0; i < 2; ++i) {
    auto place = upper().create_shared(Ino{61});
    ASSERT_TRUE(place);
    std::string left(7, '?');
    ASSERT_TRUE(pread_full(place->fd(), std::as_writable_bytes(std::span(left)), place->offset + 100));
    EXPECT_EQ(left, std::string(7, '\0'));
    ASSERT_TRUE(pwrite_full(place->fd(), as_bytes(std::string_view("remains")), place->offset + 100));
  }
  for (int life = 0; life < 2; ++life) {
    EXPECT_TRUE(upper().sync());
    for (std::uint64_t number : {62, 64, 66, 67})
      EXPECT_EQ(read_place(Ino{number}), bytes_of(static_cast<char>('A' + number % 26))) << number;
    for (std::uint64_t number : {63, 65})
      EXPECT_EQ(upper().open_shared(Ino{number}).error().code, ENOENT) << number;
    if (!under_test_.reopen) break;
    under_test_.reopen(under_test_);
  }
  auto again = upper().create_shared(Ino{61});
  ASSERT_TRUE(again);
  std::string left(7, '?');
  ASSERT_TRUE(pread_full(again->fd(), std::as_writable_bytes(std::span(left)), again->offset + 100));
  EXPECT_EQ(left, std::string(7, '\0'));
}

TEST_P(UpperLayerContract, ANodeIsGivenBackAsItWasPut) {
  apply(PutNode{kFile, full_node()});
  EXPECT_EQ(upper().find_node(kFile), full_node());
  apply(PutNode{kFile, plain_node()});
  EXPECT_EQ(upper().find_node(kFile), plain_node());
}

TEST_P(UpperLayerContract, AnErasedNodeLeavesNothing) {
  apply(PutNode{kFile, full_node()}, PutXattr{kFile, "user.a", "1"}, PutXattrTombstone{kFile, "user.b"},
        PutInline{kFile, "text"}, AddExtent{kFile, 10, 10});
  ASSERT_TRUE(upper().create_data(kFile));
  apply(EraseNode{kFile});
  EXPECT_FALSE(upper().find_node(kFile));
  EXPECT_EQ(xattrs(kFile), "");
  EXPECT_EQ(upper().get_inline(kFile).error().code, ENOENT);
  EXPECT_TRUE(upper().extents(kFile).empty());
  EXPECT_EQ(upper().open_data(kFile).error().code, ENOENT);
  EXPECT_EQ(changed(), "");
}

TEST_P(UpperLayerContract, ErasingWhatIsNotThereIsHarmless) {
  apply(EraseNode{kFile}, EraseEntry{kDir, "a"}, EraseXattr{kFile, "user.a"}, TrimExtents{kFile, 0});
  EXPECT_EQ(changed(), "");
}

TEST_P(UpperLayerContract, AnEntryATombstoneAndNothingTakeEachOthersPlace) {
  apply(PutEntry{kDir, "a", kFile, NodeKind::kFifo});
  UpperEntry entry = upper().find_entry(kDir, "a");
  EXPECT_EQ(entry.state, EntryState::kPresent);
  EXPECT_EQ(entry.ino, kFile);
  EXPECT_EQ(entry.kind, NodeKind::kFifo);
  apply(PutTombstone{kDir, "a"});
  EXPECT_EQ(upper().find_entry(kDir, "a").state, EntryState::kTombstone);
  EXPECT_EQ(list(kDir).size(), 1U);
  apply(PutEntry{kDir, "a", Ino{6}, NodeKind::kRegular});
  EXPECT_EQ(upper().find_entry(kDir, "a").ino, Ino{6});
  apply(EraseEntry{kDir, "a"});
  EXPECT_EQ(upper().find_entry(kDir, "a").state, EntryState::kAbsent);
  EXPECT_TRUE(list(kDir).empty());
}

TEST_P(UpperLayerContract, NamesAreAnyBytes) {
  std::string odd("\xff\n\x01 '\"", 6);
  std::string longest(kMaxName, 'x');
  apply(PutEntry{kDir, odd, Ino{1}, NodeKind::kRegular}, PutEntry{kDir, longest, Ino{2}, NodeKind::kRegular});
  EXPECT_EQ(upper().find_entry(kDir, odd).ino, Ino{1});
  EXPECT_EQ(upper().find_entry(kDir, longest).ino, Ino{2});
  EXPECT_EQ(upper().find_entry(kDir, longest.substr(1)).state, EntryState::kAbsent);
}

TEST_P(UpperLayerContract, AListingIsInDirectoryOrderAndStartsAfterAnyCookie) {
  constexpr int kCount = 1000;
  ChangeSet set;
  for (int i = 0; i < kCount; ++i) {
    std::string name = "name" + std::to_string(i);
    if (i % 3 == 0)
      set.changes.emplace_back(PutTombstone{kDir, name});
    else
      set.changes.emplace_back(PutEntry{kDir, name, Ino{static_cast<std::uint64_t>(i)}, NodeKind::kRegular});
  }
  ASSERT_TRUE(upper().apply(set));
  apply(PutEntry{Ino{8}, "other", kFile, NodeKind::kRegular},
        PutEntry{Ino{10}, "other", kFile, NodeKind::kRegular});
  auto all = list(kDir);
  ASSERT_EQ(all.size(), static_cast<std::size_t>(kCount));
  EXPECT_TRUE(std::is_sorted(all.begin(), all.end(), [](const Listed& a, const Listed& b) {
    return std::tie(a.cookie, a.name) < std::tie(b.cookie, b.name);
  }));
  for (const Listed& entry : all) EXPECT_EQ(entry.cookie, name_cookie(entry.name));
  for (std::size_t i : {0, 1, 499, 998, 999}) EXPECT_EQ(list(kDir, all[i].cookie).size(), kCount - i - 1);
  std::size_t seen = 0;
  upper().list_entries(kDir, kDirStart, [&](const UpperEntryView&) { return ++seen < 7; });
  EXPECT_EQ(seen, 7U);
}

TEST_P(UpperLayerContract, AnXattrATombstoneAndNothingTakeEachOthersPlace) {
  std::string value = "old";
  apply(PutXattr{kFile, "user.b", "2"}, PutXattrTombstone{kFile, "user.a"}, PutXattr{kFile, "user.c", ""});
  EXPECT_EQ(xattrs(kFile), "user.a! user.b=2 user.c= ");
  EXPECT_EQ(upper().find_xattr(kFile, "user.b", value), XattrState::kPresent);
  EXPECT_EQ(value, "2");
  EXPECT_EQ(upper().find_xattr(kFile, "user.c", value), XattrState::kPresent);
  EXPECT_EQ(value, "");
  EXPECT_EQ(upper().find_xattr(kFile, "user.a", value), XattrState::kTombstone);
  EXPECT_EQ(upper().find_xattr(kFile, "user.d", value), XattrState::kAbsent);
  apply(PutXattr{kFile, "user.a", "1"}, PutXattrTombstone{kFile, "user.b"}, EraseXattr{kFile, "user.c"});
  EXPECT_EQ(xattrs(kFile), "user.a=1 user.b! ");
  EXPECT_FALSE(upper().find_node(kFile));
}

TEST_P(UpperLayerContract, AnXattrMayHave64KiBOfAnyBytes) {
  std::string big(64 * 1024, '\0');
  big[777] = '\xff';
  apply(PutXattr{kFile, "user.big", big});
  std::string value;
  EXPECT_EQ(upper().find_xattr(kFile, "user.big", value), XattrState::kPresent);
  EXPECT_EQ(value, big);
}

TEST_P(UpperLayerContract, InlineBytesAreReplacedAsAWhole) {
  apply(PutInline{kFile, std::string(4095, 'x')});
  apply(PutInline{kFile, "short"});
  EXPECT_EQ(upper().get_inline(kFile).value(), "short");
}

TEST_P(UpperLayerContract, ExtentsAreSortedDisjointAndNotTouching) {
  Node node = full_node();
  apply(PutNode{kFile, node}, AddExtent{kFile, 100, 10}, AddExtent{kFile, 10, 10}, AddExtent{kFile, 50, 10});
  EXPECT_EQ(upper().extents(kFile), (std::vector<Extent>{{10, 10}, {50, 10}, {100, 10}}));
  apply(AddExtent{kFile, 20, 30});  // touches both its neighbours
  EXPECT_EQ(upper().extents(kFile), (std::vector<Extent>{{10, 50}, {100, 10}}));
  apply(AddExtent{kFile, 15, 5}, AddExtent{kFile, 5, 100});
  EXPECT_EQ(upper().extents(kFile), (std::vector<Extent>{{5, 105}}));
  apply(AddExtent{kFile, 300, 5}, TrimExtents{kFile, 50});
  EXPECT_EQ(upper().extents(kFile), (std::vector<Extent>{{5, 45}}));
  apply(TrimExtents{kFile, 5});
  EXPECT_TRUE(upper().extents(kFile).empty());
}

TEST_P(UpperLayerContract, OrphansAreTheNodesWithoutALink) {
  Node orphan = plain_node();
  orphan.nlink = 0;
  apply(PutNode{Ino{3}, orphan}, PutNode{Ino{4}, plain_node()}, PutNode{kFile, orphan});
  auto orphans = upper().orphans();
  EXPECT_EQ(std::set<Ino>(orphans.begin(), orphans.end()), (std::set<Ino>{Ino{3}, kFile}));
  apply(EraseNode{Ino{3}}, PutNode{kFile, plain_node()});
  EXPECT_TRUE(upper().orphans().empty());
}

TEST_P(UpperLayerContract, ChangedInodesComeInOrderWithTheirParts) {
  apply(PutXattr{Ino{30}, "user.a", "1"}, PutEntry{Ino{20}, "a", kFile, NodeKind::kRegular},
        PutNode{Ino{20}, plain_node(NodeKind::kDirectory)}, PutNode{Ino{10}, plain_node()},
        PutTombstone{Ino{40}, "gone"}, PutXattrTombstone{Ino{10}, "user.b"});
  EXPECT_EQ(changed(), "10nx 20ne 30x 40e ");
  std::size_t seen = 0;
  upper().for_each_changed([&](Ino, const ChangedParts&) { return ++seen < 2; });
  EXPECT_EQ(seen, 2U);
  apply(EraseEntry{Ino{40}, "gone"}, EraseXattr{Ino{30}, "user.a"});
  EXPECT_EQ(changed(), "10nx 20ne ");
}

TEST_P(UpperLayerContract, ChangesOfASetAreMadeInTheirOrder) {
  apply(PutNode{kFile, full_node(1)}, EraseNode{kFile}, PutNode{kFile, full_node(2)},
        PutEntry{kDir, "a", Ino{1}, NodeKind::kRegular}, EraseEntry{kDir, "a"}, PutTombstone{kDir, "a"});
  EXPECT_EQ(upper().find_node(kFile), full_node(2));
  EXPECT_EQ(upper().find_entry(kDir, "a").state, EntryState::kTombstone);
}

TEST_P(UpperLayerContract, ARequestThatWasDoneIsKnownAgain) {
  ChangeSet set;
  set.request = 42;
  set.changes.emplace_back(PutNode{kFile, plain_node()});
  EXPECT_FALSE(upper().was_applied(42));
  ASSERT_TRUE(upper().apply(set));
  EXPECT_TRUE(upper().was_applied(42));
  EXPECT_FALSE(upper().was_applied(44));
  set.request = 0;
  ASSERT_TRUE(upper().apply(set));
  EXPECT_FALSE(upper().was_applied(0));
}

TEST_P(UpperLayerContract, InodeNumbersAreNewForEveryThread) {
  constexpr int kThreads = 4;
  constexpr int kCount = 500;
  std::vector<std::vector<Ino>> given(kThreads);
  std::vector<std::thread> threads;
  for (auto& mine : given)
    threads.emplace_back([&] {
      for (int i = 0; i < kCount; ++i) mine.push_back(upper().allocate_ino());
    });
  for (auto& thread : threads) thread.join();
  std::set<Ino> all;
  for (auto& mine : given) all.insert(mine.begin(), mine.end());
  EXPECT_EQ(all.size(), static_cast<std::size_t>(kThreads * kCount));
  EXPECT_GE(to_number(*all.begin()), kFirstUpperIno);
}

TEST_P(UpperLayerContract, ADataFileIsOneFileUntilItsInodeIsErased) {
  auto created = upper().create_data(kFile);
  ASSERT_TRUE(created.has_value()) << created.error().message();
  EXPECT_EQ(content(**created), "");
  ASSERT_TRUE(pwrite_full((*created)->get(), as_bytes("hello"), 0));
  auto again = upper().create_data(kFile);
  ASSERT_TRUE(again);
  EXPECT_EQ(content(**again), "hello");
  auto opened = upper().open_data(kFile);
  ASSERT_TRUE(opened);
  ASSERT_TRUE(pwrite_full((*opened)->get(), as_bytes("J"), 0));
  EXPECT_EQ(content(**created), "Jello");
  apply(PutNode{kFile, full_node()}, EraseNode{kFile});
  EXPECT_EQ(upper().open_data(kFile).error().code, ENOENT);
  // Who holds it still reads it; a new one is another file.
  EXPECT_EQ(content(**created), "Jello");
  auto fresh = upper().create_data(kFile);
  ASSERT_TRUE(fresh);
  EXPECT_EQ(content(**fresh), "");
}

TEST_P(UpperLayerContract, ReadersDuringChangesSeeWholeNodes) {
  apply(PutNode{kFile, full_node(0)}, PutEntry{kDir, "a", kFile, NodeKind::kRegular});
  std::atomic<bool> done{false};
  std::atomic<int> torn{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i)
    readers.emplace_back([&] {
      while (!done) {
        auto node = upper().find_node(kFile);
        if (!node || *node != full_node(node->nlink - 3)) ++torn;
        if (upper().find_entry(kDir, "a").ino != kFile) ++torn;
        upper().list_entries(kDir, kDirStart, [](const UpperEntryView&) { return true; });
        std::string value;
        upper().find_xattr(kFile, "user.a", value);
      }
    });
  for (std::uint32_t i = 0; i < 300; ++i) {
    apply(PutNode{kFile, full_node(i)}, PutXattr{kFile, "user.a", std::to_string(i)},
          PutEntry{kDir, "n" + std::to_string(i), kFile, NodeKind::kRegular});
  }
  done = true;
  for (auto& reader : readers) reader.join();
  EXPECT_EQ(torn, 0);
}

TEST_P(UpperLayerContract, SyncOfAnythingSucceeds) {
  EXPECT_TRUE(upper().sync_node(Ino{12345}, tree::FsyncKind::kAll));  // a lower file that never changed
  auto data = upper().create_data(kFile);
  ASSERT_TRUE(data);
  ASSERT_TRUE(pwrite_full((*data)->get(), as_bytes("x"), 0));
  apply(PutNode{kFile, full_node()}, PutEntry{kDir, "a", kFile, NodeKind::kRegular});
  EXPECT_TRUE(upper().sync_node(kFile, tree::FsyncKind::kAll));
  EXPECT_TRUE(upper().sync_node(kDir, tree::FsyncKind::kAll));
  EXPECT_TRUE(upper().sync());
}

TEST_P(UpperLayerContract, StatFsIsOfAFileSystem) {
  auto stats = upper().stat_fs();
  ASSERT_TRUE(stats);
  EXPECT_GT(stats->f_bsize, 0U);
  EXPECT_GE(stats->f_blocks, stats->f_bfree);
}

TEST_P(UpperLayerContract, EverythingIsThereAfterReopening) {
  if (!under_test_.reopen) GTEST_SKIP() << "nothing of it outlives the object";
  Node orphan = plain_node();
  orphan.nlink = 0;
  apply(PutNode{kFile, full_node()}, PutNode{Ino{6}, orphan}, PutEntry{kDir, "a", kFile, NodeKind::kRegular},
        PutTombstone{kDir, "b"}, PutXattr{kFile, "user.a", "1"}, PutXattrTombstone{kFile, "user.b"},
        PutInline{Ino{7}, "target"}, PutNode{Ino{7}, plain_node(NodeKind::kSymlink)},
        AddExtent{kFile, 5, 10});
  auto data = upper().create_data(kFile);
  ASSERT_TRUE(data);
  ASSERT_TRUE(pwrite_full((*data)->get(), as_bytes("hello"), 0));
  data->reset();
  Ino last = upper().allocate_ino();
  apply(PutNode{last, plain_node()});
  std::string before = changed();
  under_test_.reopen(under_test_);
  EXPECT_EQ(upper().find_node(kFile), full_node());
  EXPECT_EQ(upper().orphans(), std::vector<Ino>{Ino{6}});
  EXPECT_EQ(upper().find_entry(kDir, "a").ino, kFile);
  EXPECT_EQ(upper().find_entry(kDir, "b").state, EntryState::kTombstone);
  EXPECT_EQ(xattrs(kFile), "user.a=1 user.b! ");
  EXPECT_EQ(upper().get_inline(Ino{7}).value(), "target");
  EXPECT_EQ(upper().extents(kFile), (std::vector<Extent>{{5, 10}}));
  EXPECT_EQ(content(**upper().open_data(kFile)), "hello");
  EXPECT_GT(upper().allocate_ino(), last);
  EXPECT_EQ(changed(), before);
}

}  // namespace layerfs::tree
