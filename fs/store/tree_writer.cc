// SPDX-License-Identifier: Apache-2.0
// Writes a tree file: every key in order with MDB_APPEND, so that pages are full and in the order of the
// keys.
#include <fcntl.h>
#include <unistd.h>

#include <optional>

#include "fs/base/sys_file.h"
#include "fs/store/format.h"
#include "fs/store/tree_file.h"
#include "fs/store/tree_format.h"
#include "fs/store/xxh64.h"

namespace layerfs::store {

using namespace tree_format;
using tree::Ino;
using tree::Node;

namespace {

/// A transaction keeps its pages in memory until it commits, so a large tree is written in several.
constexpr std::size_t kBatchBytes = std::size_t{32} << 20;

class TreeWriter {
 public:
  TreeWriter(const Env& env, const tree::MemoryTree& tree) : env_(env), tree_(tree) {}

  Result<void> write() {
    LAYERFS_TRY(write_entries());
    // The head stands among the keys before the numbers of nodes and xattrs are known: counted first.
    tree_.for_each_node([&](Ino ino, const Node&) {
      ++head_.nodes;
      note(tree_.list_xattrs(ino, [&](std::string_view, std::string_view) { return ++head_.xattrs, true; }));
    });
    head_.max_ino = tree_.max_ino();
    LAYERFS_TRY(add(std::string_view(&kHead, 1), encode_head(head_)));
    LAYERFS_TRY(write_inline_bytes());
    LAYERFS_TRY(write_nodes());
    LAYERFS_TRY(write_xattrs());
    return finish();
  }

 private:
  Result<void> add(std::string_view key, std::string_view value) {
    if (!txn_) {
      LAYERFS_ASSIGN(WriteTxn txn, WriteTxn::begin(env_));
      txn_.emplace(std::move(txn));
    }
    LAYERFS_TRY(txn_->put(Dbi{0}, key, value, PutMode::kAppend));
    pending_ += key.size() + value.size();
    if (pending_ < kBatchBytes) return {};
    pending_ = 0;
    auto committed = txn_->commit();
    txn_.reset();
    return committed;
  }

  Result<void> finish() {
    LAYERFS_TRY(std::move(error_));
    if (!txn_) return {};
    auto committed = txn_->commit();
    txn_.reset();
    return committed;
  }

  /// MemoryTree's visitors cannot be stopped by an error: the first one is kept and ends the write.
  void note(Result<void> result) {
    if (error_ && !result) error_ = std::move(result);
  }

  Result<void> write_entries() {
    tree_.for_each_node([&](Ino dir, const Node& node) {
      if (node.kind != tree::NodeKind::kDirectory || !error_) return;
      note(tree_.list_entries(dir, tree::kDirStart, [&](const tree::EntryView& entry) {
        Key key(dir, entry.cookie);
        key.add(entry.name);
        value_.clear();
        append_varint(value_, to_number(entry.ino));
        append_node(value_, entry.node);
        ++head_.entries;
        note(add(key.view(), value_));
        return error_.has_value();
      }));
    });
    return error_;
  }

  Result<void> write_inline_bytes() {
    tree_.for_each_node([&](Ino ino, const Node& node) {
      if (node.content != tree::ContentKind::kInline || !error_) return;
      auto bytes = tree_.get_inline(ino);
      note(bytes ? add(Key(kInline, ino).view(), *bytes) : Result<void>(std::unexpected(bytes.error())));
    });
    return error_;
  }

  Result<void> write_nodes() {
    tree_.for_each_node([&](Ino ino, const Node& node) {
      if (!error_) return;
      value_.clear();
      append_node(value_, node);
      note(add(Key(kNode, ino).view(), value_));
    });
    return error_;
  }

  Result<void> write_xattrs() {
    if (head_.xattrs == 0) return {};
    tree_.for_each_node([&](Ino ino, const Node&) {
      if (!error_) return;
      note(tree_.list_xattrs(ino, [&](std::string_view name, std::string_view value) {
        Key key(kXattr, ino);
        if (name.empty() || name.size() > tree::kMaxName)
          note(invalid_error("write tree", name, "an xattr's name must have 1 to 255 bytes"));
        else
          note(add(key.add(name).view(), value));
        return error_.has_value();
      }));
    });
    return error_;
  }

  const Env& env_;
  const tree::MemoryTree& tree_;
  std::optional<WriteTxn> txn_;
  Head head_;
  std::size_t pending_ = 0;
  std::string value_;
  Result<void> error_;
};

/// Whole pages, as LMDB's own checks want it, then the trailer over them.
Result<void> append_trailer(const std::string& path, const Digest& chain) {
  LAYERFS_ASSIGN(Fd fd, open_file(path, O_RDWR));
  LAYERFS_ASSIGN(struct stat st, stat_fd(fd.get()));
  Trailer trailer;
  trailer.chain = chain;
  trailer.lmdb_size = static_cast<std::uint64_t>(st.st_size);
  Xxh64 hash;
  std::string buffer(std::size_t{1} << 20, '\0');
  for (std::uint64_t offset = 0; offset < trailer.lmdb_size;) {
    auto size = static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), trailer.lmdb_size - offset));
    LAYERFS_ASSIGN(std::size_t got,
                   pread_full(fd.get(), std::as_writable_bytes(std::span(buffer.data(), size)), offset));
    if (got != size) return corrupt_error("write tree", path, "the file changed while it was written");
    hash.update(std::string_view(buffer.data(), size));
    offset += size;
  }
  trailer.checksum = hash.value();
  LAYERFS_TRY(pwrite_full(fd.get(), as_bytes(encode_trailer(trailer)), trailer.lmdb_size));
  return sync_fd(fd.get());
}

}  // namespace

Result<void> write_tree_file(const std::string& path, const Digest& chain, const tree::MemoryTree& tree) {
  {
    EnvOptions options;
    options.single_file = options.no_lock = options.no_sync = true;
    LAYERFS_ASSIGN(auto env, Env::open(path, options));
    if (auto written = TreeWriter(*env, tree).write(); !written)
      return with_context(written.error(), "write tree", path);
    LAYERFS_TRY(env->fill_up());
  }
  if (auto ended = append_trailer(path, chain); !ended)
    return with_context(ended.error(), "write tree", path);
  return {};
}

}  // namespace layerfs::store
