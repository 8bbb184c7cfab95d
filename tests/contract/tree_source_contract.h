// SPDX-License-Identifier: Apache-2.0
// What every TreeSource does, as tests. An implementation registers a maker: it gets a MemoryTree and gives a
// source that holds the same (INSTANTIATE_TEST_SUITE_P(Name, TreeSourceContract, testing::Values(maker))).
#pragma once

#include <gtest/gtest.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "fs/base/sha256.h"
#include "fs/tree/memory_tree.h"
#include "fs/tree/tree_source.h"

namespace layerfs::tree {

/// Keeps alive what the source lives on (a directory, a file).
struct TreeUnderTest {
  std::shared_ptr<void> keeper;
  std::shared_ptr<const TreeSource> source;
};
using TreeMaker = std::function<TreeUnderTest(MemoryTree)>;

class TreeSourceContract : public testing::TestWithParam<TreeMaker> {
 protected:
  static Node file(std::uint64_t size = 0) {
    Node node;
    node.mode = 0644;
    node.size = size;
    node.mtime = node.ctime = node.atime = {1'700'000'000, 5};
    return node;
  }
  static Node directory() {
    Node node;
    node.kind = NodeKind::kDirectory;
    node.mode = 0755;
    return node;
  }
  static Node symlink(std::size_t length) {
    Node node;
    node.kind = NodeKind::kSymlink;
    node.content = ContentKind::kInline;
    node.mode = 0777;
    node.size = length;
    return node;
  }
  const TreeSource& make(MemoryTree tree) {
    under_test_ = GetParam()(std::move(tree));
    return *under_test_.source;
  }
  struct Listed {
    DirCookie cookie;
    std::string name;
    Ino ino;
    Node node;
    bool operator==(const Listed&) const = default;
  };
  static std::vector<Listed> list(const TreeSource& tree, Ino dir, DirCookie after = kDirStart) {
    std::vector<Listed> entries;
    auto done = tree.list_entries(dir, after, [&](const EntryView& entry) {
      entries.push_back({entry.cookie, std::string(entry.name), entry.ino, entry.node});
      return true;
    });
    EXPECT_TRUE(done.has_value());
    return entries;
  }
  static std::vector<std::pair<std::string, std::string>> xattrs(const TreeSource& tree, Ino ino) {
    std::vector<std::pair<std::string, std::string>> found;
    EXPECT_TRUE(tree.list_xattrs(ino, [&](std::string_view name, std::string_view value) {
      found.emplace_back(name, value);
      return true;
    }));
    return found;
  }

  TreeUnderTest under_test_;
};

TEST_P(TreeSourceContract, AnEmptyTreeHasItsRoot) {
  const auto& tree = make(MemoryTree());
  auto root = tree.find_node(kRootIno);
  ASSERT_TRUE(root && *root);
  EXPECT_EQ((*root)->kind, NodeKind::kDirectory);
  EXPECT_EQ((*root)->nlink, 2U);
  EXPECT_EQ((*root)->parent, kRootIno);
  EXPECT_TRUE(list(tree, kRootIno).empty());
  EXPECT_EQ(tree.max_ino(), kRootIno);
}

TEST_P(TreeSourceContract, ANodeComesBackWithAllItsFields) {
  MemoryTree built;
  Node node = file(123'456'789'012);
  node.content = ContentKind::kObject;
  node.object = sha256("contents");
  node.mode = 06755;
  node.uid = Uid{4'000'000'000U};
  node.gid = Gid{65'534};
  node.mtime = {-5, 999'999'999};
  node.ctime = {1, 2};
  node.atime = {std::int64_t{1} << 40, 3};
  Ino ino = built.add_node(kRootIno, "file", node, {}, {});
  node.parent = kRootIno;
  Node device;
  device.kind = NodeKind::kBlockDevice;
  device.rdev = makedev(259, 70'000);
  Ino device_ino = built.add_node(kRootIno, "device", device, {}, {});
  device.parent = kRootIno;
  const auto& tree = make(std::move(built));
  EXPECT_EQ(**tree.find_node(ino), node);
  EXPECT_EQ((*tree.find_entry(kRootIno, "file"))->ino, ino);
  EXPECT_EQ((*tree.find_entry(kRootIno, "file"))->node, node);
  EXPECT_EQ(**tree.find_node(device_ino), device);
}

TEST_P(TreeSourceContract, EveryKindIsKept) {
  MemoryTree built;
  std::vector<std::pair<std::string, NodeKind>> kinds = {
      {"regular", NodeKind::kRegular}, {"directory", NodeKind::kDirectory}, {"link", NodeKind::kSymlink},
      {"char", NodeKind::kCharDevice}, {"block", NodeKind::kBlockDevice},   {"fifo", NodeKind::kFifo},
      {"socket", NodeKind::kSocket}};
  for (const auto& [name, kind] : kinds) {
    Node node;
    node.kind = kind;
    bool is_link = kind == NodeKind::kSymlink;
    if (is_link) node = symlink(6);
    built.add_node(kRootIno, name, node, is_link ? "target" : "", {});
  }
  const auto& tree = make(std::move(built));
  for (const auto& [name, kind] : kinds)
    EXPECT_EQ((*tree.find_entry(kRootIno, name))->node.kind, kind) << name;
}

TEST_P(TreeSourceContract, WhatIsNotThereIsNoError) {
  MemoryTree built;
  Ino plain = built.add_node(kRootIno, "file", file(), {}, {});
  const auto& tree = make(std::move(built));
  for (Ino ino : {Ino{0}, Ino{99}, Ino{kFirstUpperIno}, Ino{~std::uint64_t{0}}}) {
    auto node = tree.find_node(ino);
    ASSERT_TRUE(node.has_value());
    EXPECT_FALSE(node->has_value());
    auto entry = tree.find_entry(ino, "file");
    ASSERT_TRUE(entry.has_value());
    EXPECT_FALSE(entry->has_value());
    EXPECT_TRUE(list(tree, ino).empty());
    EXPECT_TRUE(xattrs(tree, ino).empty());
  }
  for (std::string_view name : {"fil", "file2", "", ".", ".."}) {
    auto entry = tree.find_entry(kRootIno, name);
    ASSERT_TRUE(entry.has_value());
    EXPECT_FALSE(entry->has_value()) << name;
  }
  auto too_long = tree.find_entry(kRootIno, std::string(5000, 'x'));
  ASSERT_TRUE(too_long.has_value());
  EXPECT_FALSE(too_long->has_value());
  EXPECT_FALSE((*tree.find_entry(plain, "below")).has_value());
  EXPECT_EQ(tree.get_inline(plain).error().code, ENOENT);
  EXPECT_EQ(tree.get_inline(Ino{99}).error().code, ENOENT);
  EXPECT_FALSE((*tree.find_xattr(plain, "user.x")).has_value());
}

TEST_P(TreeSourceContract, ListingIsInOrderOfCookiesAndGoesOnAnywhere) {
  MemoryTree built;
  constexpr int kCount = 500;
  Ino dir = built.add_node(kRootIno, "dir", directory(), {}, {});
  Ino other = built.add_node(kRootIno, "other", directory(), {}, {});
  for (int i = 0; i < kCount; ++i) {
    built.add_node(dir, "entry" + std::to_string(i), file(static_cast<std::uint64_t>(i)), {}, {});
    built.add_node(other, "other" + std::to_string(i), file(), {}, {});
  }
  const auto& tree = make(std::move(built));
  auto all = list(tree, dir);
  ASSERT_EQ(all.size(), static_cast<std::size_t>(kCount));
  std::set<std::string> names;
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(all[i].cookie, name_cookie(all[i].name));
    if (i > 0) {
      EXPECT_LT(all[i - 1].cookie, all[i].cookie);
    }
    names.insert(all[i].name);
    auto entry = tree.find_entry(dir, all[i].name);
    EXPECT_EQ((*entry)->ino, all[i].ino);
    EXPECT_EQ((*entry)->node, all[i].node);
  }
  EXPECT_EQ(names.size(), all.size());
  for (std::size_t i : {std::size_t{0}, std::size_t{17}, all.size() - 2, all.size() - 1}) {
    auto rest = list(tree, dir, all[i].cookie);
    EXPECT_EQ(rest, std::vector<Listed>(all.begin() + static_cast<long>(i) + 1, all.end()));
  }
  EXPECT_EQ(list(tree, dir, kDotDotCookie).size(), all.size());
  EXPECT_TRUE(list(tree, dir, DirCookie{(std::uint64_t{1} << 63) - 1}).empty());
}

TEST_P(TreeSourceContract, AVisitorStopsAListing) {
  MemoryTree built;
  for (int i = 0; i < 10; ++i)
    built.add_node(kRootIno, "f" + std::to_string(i), file(), {}, {{"user.a", "1"}, {"user.b", "2"}});
  const auto& tree = make(std::move(built));
  int seen = 0;
  EXPECT_TRUE(tree.list_entries(kRootIno, kDirStart, [&](const EntryView&) { return ++seen < 3; }));
  EXPECT_EQ(seen, 3);
  seen = 0;
  EXPECT_TRUE(tree.list_xattrs(Ino{2}, [&](std::string_view, std::string_view) { return ++seen < 1; }));
  EXPECT_EQ(seen, 1);
}

TEST_P(TreeSourceContract, AVisitorMayAskTheTree) {
  MemoryTree built;
  Ino dir = built.add_node(kRootIno, "dir", directory(), {}, {});
  built.add_node(dir, "inner", file(), {}, {{"user.a", "1"}});
  const auto& tree = make(std::move(built));
  int seen = 0;
  EXPECT_TRUE(tree.list_entries(kRootIno, kDirStart, [&](const EntryView& outer) {
    EXPECT_TRUE(tree.list_entries(outer.ino, kDirStart, [&](const EntryView& inner) {
      EXPECT_EQ(**tree.find_xattr(inner.ino, "user.a"), "1");
      ++seen;
      return true;
    }));
    EXPECT_EQ(outer.name, "dir");
    return true;
  }));
  EXPECT_EQ(seen, 1);
}

TEST_P(TreeSourceContract, NamesOfEveryByteAndOf255BytesAreFound) {
  MemoryTree built;
  std::vector<std::string> names = {
      std::string(255, 'n'), std::string(254, 'n'), "\xff\xfe", "a b\n", ".hidden", "..."};
  for (int byte = 1; byte < 256; ++byte)
    if (byte != '/' && byte != '.') names.emplace_back(1, static_cast<char>(byte));
  for (const auto& name : names) built.add_node(kRootIno, name, file(), {}, {});
  const auto& tree = make(std::move(built));
  for (const auto& name : names) EXPECT_TRUE((*tree.find_entry(kRootIno, name)).has_value());
  EXPECT_EQ(list(tree, kRootIno).size(), names.size());
}

TEST_P(TreeSourceContract, HardLinksAreOneNode) {
  MemoryTree built;
  Ino dir = built.add_node(kRootIno, "dir", directory(), {}, {});
  Ino ino = built.add_node(kRootIno, "a", file(7), {}, {});
  built.add_link(dir, "b", ino);
  built.add_link(kRootIno, "c", ino);
  const auto& tree = make(std::move(built));
  EXPECT_EQ((**tree.find_node(ino)).nlink, 3U);
  for (auto [where, name] : {std::pair(kRootIno, "a"), std::pair(dir, "b"), std::pair(kRootIno, "c")}) {
    EXPECT_EQ((*tree.find_entry(where, name))->ino, ino);
    EXPECT_EQ((*tree.find_entry(where, name))->node.nlink, 3U);
  }
}

TEST_P(TreeSourceContract, DirectoriesKnowTheirParentAndLinks) {
  MemoryTree built;
  Ino dir = built.add_node(kRootIno, "dir", directory(), {}, {});
  Ino below = built.add_node(dir, "below", directory(), {}, {});
  built.add_node(dir, "file", file(), {}, {});
  const auto& tree = make(std::move(built));
  EXPECT_EQ((**tree.find_node(dir)).nlink, 3U);
  EXPECT_EQ((**tree.find_node(kRootIno)).nlink, 3U);
  EXPECT_EQ((**tree.find_node(below)).nlink, 2U);
  EXPECT_EQ((**tree.find_node(below)).parent, dir);
  EXPECT_EQ((*tree.find_entry(dir, "below"))->node.parent, dir);
}

TEST_P(TreeSourceContract, SymlinkTargetsAreBytes) {
  MemoryTree built;
  std::vector<std::string> targets = {"target", "/abs/../x", std::string(4095, 't'), "\xff\x01", ""};
  std::vector<Ino> inos;
  for (const auto& target : targets)
    inos.push_back(
        built.add_node(kRootIno, "l" + std::to_string(target.size()), symlink(target.size()), target, {}));
  const auto& tree = make(std::move(built));
  for (std::size_t i = 0; i < inos.size(); ++i) EXPECT_EQ(*tree.get_inline(inos[i]), targets[i]);
}

TEST_P(TreeSourceContract, XattrsAreFoundAndListedInOrder) {
  MemoryTree built;
  std::string big(64 * 1024, 'v');
  XattrList many = {{"user.z", "last"},
                    {"security.capability", std::string("\x01\x00\x00", 3)},
                    {"user." + std::string(250, 'n'), big},
                    {"user.empty", ""}};
  Ino ino = built.add_node(kRootIno, "file", file(), {}, many);
  Ino next = built.add_node(kRootIno, "next", file(), {}, {{"user.next", "x"}});
  const auto& tree = make(std::move(built));
  auto listed = xattrs(tree, ino);
  std::sort(many.begin(), many.end());
  EXPECT_EQ(listed, many);
  for (const auto& [name, value] : many) EXPECT_EQ(**tree.find_xattr(ino, name), value);
  EXPECT_FALSE((*tree.find_xattr(ino, "user.next")).has_value());
  EXPECT_FALSE((*tree.find_xattr(ino, "user.")).has_value());
  EXPECT_FALSE((*tree.find_xattr(ino, "")).has_value());
  EXPECT_FALSE((*tree.find_xattr(ino, std::string(5000, 'x'))).has_value());
  EXPECT_EQ(xattrs(tree, next).size(), 1U);
}

TEST_P(TreeSourceContract, TheHighestNumberSurvivesItsNode) {
  MemoryTree built;
  built.add_node(kRootIno, "kept", file(), {}, {});
  Ino last = built.add_node(kRootIno, "removed", file(), {}, {});
  built.remove_entry(kRootIno, "removed");
  const auto& tree = make(std::move(built));
  EXPECT_EQ(tree.max_ino(), last);
  EXPECT_FALSE((*tree.find_node(last)).has_value());
  // So a tree that goes on from this one gives the numbers that one built in one go gives.
  auto copy = MemoryTree::copy_of(tree);
  ASSERT_TRUE(copy.has_value());
  EXPECT_EQ(to_number(copy->add_node(kRootIno, "new", file(), {}, {})), to_number(last) + 1);
}

TEST_P(TreeSourceContract, ACopyIsTheSameTree) {
  MemoryTree built;
  Ino dir = built.add_node(kRootIno, "dir", directory(), {}, {{"user.d", "1"}});
  Ino ino = built.add_node(dir, "file", file(5), {}, {{"user.f", "2"}});
  built.add_link(kRootIno, "linked", ino);
  Ino link = built.add_node(dir, "link", symlink(3), "abc", {});
  const auto& tree = make(std::move(built));
  auto copy = MemoryTree::copy_of(tree);
  ASSERT_TRUE(copy.has_value());
  EXPECT_EQ(list(*copy, kRootIno), list(tree, kRootIno));
  EXPECT_EQ(list(*copy, dir), list(tree, dir));
  EXPECT_EQ(*copy->get_inline(link), "abc");
  EXPECT_EQ(xattrs(*copy, ino), xattrs(tree, ino));
  EXPECT_EQ(**copy->find_node(ino), **tree.find_node(ino));
}

TEST_P(TreeSourceContract, ManyThreadsReadAtOnce) {
  MemoryTree built;
  constexpr int kDirectories = 20;
  constexpr int kFiles = 30;
  std::vector<Ino> dirs;
  for (int d = 0; d < kDirectories; ++d) {
    dirs.push_back(built.add_node(kRootIno, "d" + std::to_string(d), directory(), {}, {}));
    for (int f = 0; f < kFiles; ++f)
      built.add_node(dirs.back(), "f" + std::to_string(f), file(static_cast<std::uint64_t>(d * 100 + f)), {},
                     {{"user.x", "y"}});
  }
  const auto& tree = make(std::move(built));
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int d = 0; d < kDirectories; ++d) {
        int seen = 0;
        auto listed = tree.list_entries(dirs[static_cast<std::size_t>(d)], kDirStart,
                                        [&](const EntryView&) { return ++seen > 0; });
        if (!listed || seen != kFiles) ++wrong;
        for (int f = 0; f < kFiles; ++f) {
          auto entry = tree.find_entry(dirs[static_cast<std::size_t>(d)], "f" + std::to_string(f));
          if (!entry || !*entry || (*entry)->node.size != static_cast<std::uint64_t>(d * 100 + f))
            ++wrong;
          else if (auto xattr = tree.find_xattr((*entry)->ino, "user.x"); !xattr || *xattr != "y")
            ++wrong;
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace layerfs::tree
