// SPDX-License-Identifier: Apache-2.0
// The TreeSource contract on the tree in memory, on the tree file, and on trees with uppers over them.
#include "tests/contract/tree_source_contract.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>

#include "fs/store/tree_file.h"
#include "fs/tree/over_tree.h"
#include "fs/upper/memory_upper.h"

namespace layerfs::tree {
namespace {

TreeUnderTest in_memory(MemoryTree tree) { return {nullptr, std::make_shared<MemoryTree>(std::move(tree))}; }

TreeUnderTest on_disk(MemoryTree tree) {
  std::string pattern = (std::filesystem::temp_directory_path() / "layerfs-tree-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
  std::shared_ptr<void> keeper(new std::string(pattern), [](void* raw) {
    auto* path = static_cast<std::string*>(raw);
    std::filesystem::remove_all(*path);
    delete path;
  });
  Digest chain = sha256("chain");
  std::string path = pattern + "/tree";
  auto written = store::write_tree_file(path, chain, tree);
  if (!written) throw std::runtime_error(written.error().message());
  auto file = store::TreeFile::open(path, chain);
  if (!file) throw std::runtime_error(file.error().message());
  return {std::move(keeper), std::move(*file)};
}

/// Everything of the tree, as changes.
ChangeSet changes_of(const MemoryTree& tree) {
  ChangeSet set;
  tree.for_each_node([&](Ino ino, const Node& node) {
    set.changes.emplace_back(PutNode{ino, node});
    if (auto text = tree.get_inline(ino)) set.changes.emplace_back(PutInline{ino, *text});
    EXPECT_TRUE(tree.list_xattrs(ino, [&](std::string_view name, std::string_view value) {
      set.changes.emplace_back(PutXattr{ino, std::string(name), std::string(value)});
      return true;
    }));
    EXPECT_TRUE(tree.list_entries(ino, kDirStart, [&](const EntryView& entry) {
      set.changes.emplace_back(PutEntry{ino, std::string(entry.name), entry.ino, entry.node.kind});
      return true;
    }));
  });
  return set;
}

/// A tree and the uppers over it, the uppermost last.
struct Levels {
  explicit Levels(MemoryTree tree) : below(std::move(tree)) {}
  void add(const ChangeSet& changes) {
    uppers.push_back(upper::make_memory_upper());
    EXPECT_TRUE(uppers.back()->apply(changes));
    const TreeSource& under = trees.empty() ? static_cast<const TreeSource&>(below) : *trees.back();
    trees.push_back(std::make_unique<OverTree>(under, uppers.back().get()));
  }
  MemoryTree below;
  std::vector<std::unique_ptr<UpperLayer>> uppers;
  std::vector<std::unique_ptr<OverTree>> trees;
};

TreeUnderTest under_test(std::shared_ptr<Levels> levels) {
  const std::shared_ptr<const TreeSource> top(levels, levels->trees.back().get());
  return {std::move(levels), top};
}

TreeUnderTest all_below(MemoryTree tree) {
  auto levels = std::make_shared<Levels>(std::move(tree));
  levels->add({});
  return under_test(std::move(levels));
}

TreeUnderTest all_above(MemoryTree tree) {
  const ChangeSet all = changes_of(tree);
  tree.clear_directory(kRootIno);  // which numbers it has given it knows still
  auto levels = std::make_shared<Levels>(std::move(tree));
  levels->add(all);
  return under_test(std::move(levels));
}

/// One upper changes and hides everything, and the next puts it right.
TreeUnderTest put_right(MemoryTree tree) {
  ChangeSet wrong;
  ChangeSet right = changes_of(tree);
  tree.for_each_node([&](Ino ino, const Node& node) {
    Node other = node;
    other.uid = Uid{77};
    other.size += 1;
    wrong.changes.emplace_back(PutNode{ino, other});
    if (tree.get_inline(ino)) wrong.changes.emplace_back(PutInline{ino, "elsewhere"});
    wrong.changes.emplace_back(PutXattr{ino, "user.wrong", "x"});
    right.changes.emplace_back(PutXattrTombstone{ino, "user.wrong"});
    EXPECT_TRUE(tree.list_xattrs(ino, [&](std::string_view name, std::string_view) {
      wrong.changes.emplace_back(PutXattrTombstone{ino, std::string(name)});
      return true;
    }));
    if (node.kind != NodeKind::kDirectory) return;
    wrong.changes.emplace_back(PutEntry{ino, "wrong", kRootIno, NodeKind::kDirectory});
    right.changes.emplace_back(PutTombstone{ino, "wrong"});
    EXPECT_TRUE(tree.list_entries(ino, kDirStart, [&](const EntryView& entry) {
      wrong.changes.emplace_back(PutTombstone{ino, std::string(entry.name)});
      return true;
    }));
  });
  auto levels = std::make_shared<Levels>(std::move(tree));
  levels->add(wrong);
  levels->add(right);
  return under_test(std::move(levels));
}

INSTANTIATE_TEST_SUITE_P(MemoryTree, TreeSourceContract, testing::Values(in_memory));
INSTANTIATE_TEST_SUITE_P(TreeFile, TreeSourceContract, testing::Values(on_disk));

INSTANTIATE_TEST_SUITE_P(OverTree, TreeSourceContract, testing::Values(all_below, all_above));
INSTANTIATE_TEST_SUITE_P(ThreeLevels, TreeSourceContract, testing::Values(put_right));

}  // namespace
}  // namespace layerfs::tree
