// SPDX-License-Identifier: Apache-2.0
// Merged trees: found, or built from the layers and published (FORMAT.md, "Trees").
#include <fcntl.h>
#include <unistd.h>

#include "fs/base/log.h"
#include "fs/base/scope_exit.h"
#include "fs/base/sys_file.h"
#include "fs/store/disk_store.h"
#include "fs/tree/merge.h"

namespace layerfs::store {

Result<std::optional<std::shared_ptr<const TreeFile>>> DiskStore::find_tree(const Digest& chain) const {
  auto file = TreeFile::open_in(layout_.own(), layout_.tree(chain), chain);
  if (file) return std::optional(std::move(*file));
  if (file.error().code == ENOENT) return std::nullopt;
  // A tree holds nothing that its layers do not: a damaged one is made anew, with the same inode numbers.
  if (file.error().kind != ErrorKind::kCorrupt) return std::unexpected(file.error());
  log_warning("{}; building it again", file.error().message());
  return std::nullopt;
}

Result<tree::MemoryTree> DiskStore::build_tree(const std::vector<Digest>& diff_ids,
                                               const tree::MergeLimits& limits) {
  tree::MemoryTree tree;
  std::size_t done = 0;
  std::vector<Digest> chains = chain_ids(diff_ids);
  for (std::size_t count = diff_ids.size(); count-- > 1;) {
    LAYERFS_ASSIGN(auto base, find_tree(chains[count - 1]));
    if (!base) continue;
    LAYERFS_ASSIGN(tree, tree::MemoryTree::copy_of(**base));
    done = count;
    break;
  }
  for (; done < diff_ids.size(); ++done) {
    LAYERFS_ASSIGN(auto layer, get_layer(diff_ids[done]));
    if (auto merged = tree::merge_layer(tree, *layer, limits); !merged)
      return with_context(merged.error(), "merge layer", diff_ids[done].str());
  }
  return tree;
}

Result<std::shared_ptr<const tree::TreeSource>> DiskStore::get_tree(const std::vector<Digest>& diff_ids,
                                                                    const tree::MergeLimits& limits) {
  Digest chain = chain_id(diff_ids);
  LAYERFS_ASSIGN(auto present, find_tree(chain));
  if (present) return std::move(*present);
  if (access_ != StoreAccess::kWrite || read_only_disk_) {
    LAYERFS_ASSIGN(tree::MemoryTree built, build_tree(diff_ids, limits));
    return std::make_shared<tree::MemoryTree>(std::move(built));
  }
  LAYERFS_ASSIGN(Fd lease, layout_.lease());  // until it is open: then its flock keeps gc away
  LAYERFS_ASSIGN(tree::MemoryTree built, build_tree(diff_ids, limits));
  std::string temporary = layout_.make_temporary_name("tree");
  ScopeExit remove_temporary([&] { layout_.drop_temporary(temporary); });
  LAYERFS_TRY(write_tree_file(layout_.absolute(temporary), chain, built));
  LAYERFS_TRY(layout_.own().rename(temporary, layout_.tree(chain)));
  remove_temporary.release();
  LAYERFS_TRY(layout_.own().sync(Layout::kTrees));
  return TreeFile::open_in(layout_.own(), layout_.tree(chain), chain);
}

}  // namespace layerfs::store
