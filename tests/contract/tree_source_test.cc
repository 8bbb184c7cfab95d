// SPDX-License-Identifier: Apache-2.0
// The TreeSource contract on the tree in memory and on the tree file.
#include "tests/contract/tree_source_contract.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>

#include "fs/store/tree_file.h"

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

INSTANTIATE_TEST_SUITE_P(MemoryTree, TreeSourceContract, testing::Values(in_memory));
INSTANTIATE_TEST_SUITE_P(TreeFile, TreeSourceContract, testing::Values(on_disk));

}  // namespace
}  // namespace layerfs::tree
