// SPDX-License-Identifier: Apache-2.0
// TreeFile: a merged tree on disk, one write-once LMDB file (FORMAT.md, "Tree file").
//
// (1) The whole file was checked against its checksum before LMDB saw it, so damage is an error of open().
// (2) The file is held with a shared flock(2) while it is open: gc leaves it alone (store.h, invariant 2).
// (3) A listing is one range scan and a lookup one key: directory entries embed their node.
// (4) However much of it is read, only a bounded part of its map stays resident (mapped_pages.h).
#pragma once

#include <memory>
#include <string>

#include "fs/base/digest.h"
#include "fs/base/fd.h"
#include "fs/base/function_ref.h"
#include "fs/base/own_files.h"
#include "fs/base/result.h"
#include "fs/store/lmdb.h"
#include "fs/store/mapped_pages.h"
#include "fs/store/session_pool.h"
#include "fs/tree/memory_tree.h"
#include "fs/tree/tree_source.h"

namespace layerfs::store {

class TreeFile final : public tree::TreeSource {
 public:
  /// Errors: ENOENT; kCorrupt (damaged, or another chain's); kUnsupported (a newer version).
  static Result<std::shared_ptr<const TreeFile>> open(const std::string& path, const Digest& chain);
  /// The same of `name` in a directory of ours.
  static Result<std::shared_ptr<const TreeFile>> open_in(const OwnDirectory& directory,
                                                         const std::string& name, const Digest& chain);

  Result<std::optional<tree::Node>> find_node(tree::Ino ino) const override;
  Result<std::optional<tree::Entry>> find_entry(tree::Ino dir, std::string_view name) const override;
  Result<void> list_entries(tree::Ino dir, tree::DirCookie after, tree::EntryVisitor visit) const override;
  Result<std::optional<std::string>> find_xattr(tree::Ino ino, std::string_view name) const override;
  Result<void> list_xattrs(tree::Ino ino, tree::XattrVisitor visit) const override;
  Result<std::string> get_inline(tree::Ino ino) const override;
  tree::Ino max_ino() const override { return max_ino_; }

  /// Every node in order of its number. An error from `visit` stops and is returned.
  Result<void> for_each_node(FunctionRef<Result<void>(tree::Ino, const tree::Node&)> visit) const;

 private:
  struct Session {
    ReadTxn txn;
    Cursor cursor;
  };
  using Pool = SessionPool<Session, 32>;

  TreeFile() = default;
  static Result<std::shared_ptr<const TreeFile>> open_by(FunctionRef<Result<Fd>()> open_fd,
                                                         const std::string& path, const Digest& chain);
  Result<void> read_head();
  Result<Pool::Held> session() const;
  std::unexpected<Error> corrupt(std::string_view reason) const;

  std::string path_;
  Fd fd_;                         // holds the flock
  std::shared_ptr<Env> env_;      // before pool_: sessions die first
  const void* mapped_ = nullptr;  // a byte of env_'s map
  mutable MappedPages pages_;
  mutable Pool pool_;
  tree::Ino max_ino_{0};
  bool has_xattrs_ = false;
};

/// Writes `tree` to `path`, which must not exist, and waits for the disk. The file has its name at once: give
/// a temporary one and rename it.
Result<void> write_tree_file(const std::string& path, const Digest& chain, const tree::MemoryTree& tree);

}  // namespace layerfs::store
