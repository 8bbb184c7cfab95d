// SPDX-License-Identifier: Apache-2.0
// The tree file beyond the contract (tests/contract): damage, flock, size of many nodes, determinism.
#include "fs/store/tree_file.h"

#include <fcntl.h>

#include "fs/store/tree_format.h"
#include "tests/store/support.h"

namespace layerfs::store {
namespace {

using tree::Ino;
using tree::kRootIno;
using tree::MemoryTree;
using tree::Node;

MemoryTree some_tree(int files) {
  MemoryTree tree;
  Node directory;
  directory.kind = tree::NodeKind::kDirectory;
  Ino dir = tree.add_node(kRootIno, "dir", directory, {}, {});
  for (int i = 0; i < files; ++i) {
    Node file;
    file.size = static_cast<std::uint64_t>(i);
    file.content = tree::ContentKind::kObject;
    file.object = sha256(std::to_string(i));
    tree.add_node(dir, "file" + std::to_string(i), file, {}, {});
  }
  return tree;
}

class TreeFileTest : public testing::Test {
 protected:
  TreeFileTest() : path_(directory_.path() + "/tree"), chain_(sha256("chain")) {}
  ErrorKind kind_of_open() {
    auto opened = TreeFile::open(path_, chain_);
    EXPECT_FALSE(opened);
    return opened ? ErrorKind::kSystem : opened.error().kind;
  }

  TemporaryDirectory directory_;
  std::string path_;
  Digest chain_;
};

TEST_F(TreeFileTest, IsAbsentOrOfAnotherChain) {
  EXPECT_EQ(TreeFile::open(path_, chain_).error().code, ENOENT);
  ASSERT_DONE(write_tree_file(path_, chain_, some_tree(10)));
  EXPECT_EQ(TreeFile::open(path_, sha256("other")).error().kind, ErrorKind::kCorrupt);
  EXPECT_TRUE(TreeFile::open(path_, chain_));
}

TEST_F(TreeFileTest, TheSameTreeIsTheSameBytes) {
  ASSERT_DONE(write_tree_file(path_, chain_, some_tree(2000)));
  ASSERT_DONE(write_tree_file(path_ + "2", chain_, some_tree(2000)));
  EXPECT_EQ(value_of(read_file(path_)), value_of(read_file(path_ + "2")));
}

TEST_F(TreeFileTest, ALargeTreeIsWrittenInSeveralTransactions) {
  constexpr int kFiles = 200'000;
  ASSERT_DONE(write_tree_file(path_, chain_, some_tree(kFiles)));
  auto file = value_of(TreeFile::open(path_, chain_));
  int seen = 0;
  ASSERT_DONE(
      file->list_entries(Ino{2}, tree::kDirStart, [&](const tree::EntryView&) { return ++seen > 0; }));
  EXPECT_EQ(seen, kFiles);
  EXPECT_EQ((*file->find_entry(Ino{2}, "file123456"))->node.object, sha256("123456"));
  // Two copies of a node of some 50 bytes, a name and keys: what a mount has to read cold.
  EXPECT_LT(std::filesystem::file_size(path_), std::uintmax_t{kFiles} * 200);
}

TEST_F(TreeFileTest, EveryTruncationIsAnError) {
  ASSERT_DONE(write_tree_file(path_, chain_, some_tree(300)));
  std::string whole = value_of(read_file(path_));
  for (std::size_t size : {std::size_t{0}, std::size_t{1}, tree_format::kTrailerSize, std::size_t{4096},
                           whole.size() / 2, whole.size() - 4096, whole.size() - 1}) {
    std::filesystem::resize_file(path_, size);
    EXPECT_EQ(kind_of_open(), ErrorKind::kCorrupt) << size;
    auto fd = value_of(open_file(path_, O_WRONLY | O_TRUNC));
    ASSERT_DONE(write_full(fd.get(), as_bytes(whole)));
  }
  EXPECT_TRUE(TreeFile::open(path_, chain_));
}

TEST_F(TreeFileTest, EveryFlippedByteIsAnError) {
  ASSERT_DONE(write_tree_file(path_, chain_, some_tree(60)));
  std::string whole = value_of(read_file(path_));
  auto fd = value_of(open_file(path_, O_WRONLY));
  for (std::size_t at = 0; at < whole.size(); at += at + 200 < whole.size() ? 61 : 1) {
    char wrong = static_cast<char>(whole[at] ^ 0x20);
    ASSERT_DONE(pwrite_full(fd.get(), std::as_bytes(std::span(&wrong, 1)), at));
    auto opened = TreeFile::open(path_, chain_);
    EXPECT_FALSE(opened) << at;
    ASSERT_DONE(pwrite_full(fd.get(), std::as_bytes(std::span(&whole[at], 1)), at));
  }
  EXPECT_TRUE(TreeFile::open(path_, chain_));
}

TEST_F(TreeFileTest, IsLockedWhileItIsOpen) {
  ASSERT_DONE(write_tree_file(path_, chain_, some_tree(10)));
  auto file = value_of(TreeFile::open(path_, chain_));
  auto second = value_of(TreeFile::open(path_, chain_));
  auto fd = value_of(open_file(path_, O_RDONLY));
  EXPECT_FALSE(value_of(lock_file(fd.get(), LockMode::kExclusive, LockWait::kNo)));
  file.reset();
  EXPECT_FALSE(value_of(lock_file(fd.get(), LockMode::kExclusive, LockWait::kNo)));
  second.reset();
  EXPECT_TRUE(value_of(lock_file(fd.get(), LockMode::kExclusive, LockWait::kNo)));
}

TEST_F(TreeFileTest, AFileWithoutANameIsNotOpenedForEver) {
  ASSERT_DONE(write_tree_file(path_, chain_, some_tree(10)));
  auto fd = value_of(open_file(path_, O_RDONLY));
  std::filesystem::remove(path_);
  EXPECT_EQ(TreeFile::open("/proc/self/fd/" + std::to_string(fd.get()), chain_).error().code, ESTALE);
}

TEST_F(TreeFileTest, StaysReadableWhenItsNameIsGone) {
  ASSERT_DONE(write_tree_file(path_, chain_, some_tree(10)));
  auto file = value_of(TreeFile::open(path_, chain_));
  std::filesystem::remove(path_);
  EXPECT_TRUE((*file->find_entry(Ino{2}, "file3")).has_value());
}

}  // namespace
}  // namespace layerfs::store
