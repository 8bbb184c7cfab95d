// SPDX-License-Identifier: Apache-2.0
// UnionTest: a UnionFs over a small tree and a MemoryUpper, with paths instead of inode numbers.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "fs/base/bytes.h"
#include "fs/tree/memory_blobs.h"
#include "fs/tree/memory_tree.h"
#include "fs/union/union_fs.h"
#include "fs/upper/memory_upper.h"
#include "tests/union/union_check.h"

namespace layerfs::unionfs {

template <class T>
int code(const Result<T>& result) {
  return result ? 0 : result.error().code;
}

/// The `at`th of the calls that are counted with it, from 1, fails with `code`.
struct FaultPlan {
  int at = 0;  ///< 0: none
  int code = 0;
  int calls = 0;
  bool hits() { return ++calls == at; }
};

/// An upper whose changes fail on request, as those of a full disk do.
class FaultyUpper : public tree::UpperLayer {
 public:
  explicit FaultyUpper(std::shared_ptr<tree::UpperLayer> inner) : inner_(std::move(inner)) {}
  int fail_apply = 0;  ///< errno of every apply(); 0: none
  int fail_create = 0;
  int fail_open = 0;  ///< of the next open only
  mutable int opens = 0;
  std::size_t most_changes = SIZE_MAX;  ///< of one set, as a record of the redo log has an end
  FaultPlan* plan = nullptr;            ///< of every call that may fail

  std::optional<Node> find_node(Ino ino) const override { return inner_->find_node(ino); }
  tree::UpperEntry find_entry(Ino dir, std::string_view name) const override {
    return inner_->find_entry(dir, name);
  }
  void list_entries(Ino dir, DirCookie after,
                    FunctionRef<bool(const tree::UpperEntryView&)> visit) const override {
    inner_->list_entries(dir, after, visit);
  }
  tree::XattrState find_xattr(Ino ino, std::string_view name, std::string& value) const override {
    return inner_->find_xattr(ino, name, value);
  }
  void list_xattrs(
      Ino ino, FunctionRef<bool(std::string_view, tree::XattrState, std::string_view)> visit) const override {
    inner_->list_xattrs(ino, visit);
  }
  Result<std::string> get_inline(Ino ino) const override { return inner_->get_inline(ino); }
  std::vector<tree::Extent> extents(Ino ino) const override { return inner_->extents(ino); }
  std::vector<Ino> orphans() const override { return inner_->orphans(); }
  void for_each_changed(FunctionRef<bool(Ino, const tree::ChangedParts&)> visit) const override {
    inner_->for_each_changed(visit);
  }
  Result<void> apply(const tree::ChangeSet& change) override {
    if (fail_apply != 0) return errno_error(fail_apply);
    if (change.changes.size() > most_changes) return errno_error(E2BIG);
    LAYERFS_TRY(follow_plan());
    return inner_->apply(change);
  }
  bool was_applied(std::uint64_t request) const override { return inner_->was_applied(request); }
  Ino allocate_ino() override { return inner_->allocate_ino(); }
  Result<std::shared_ptr<const Fd>> create_data(Ino ino) override {
    if (fail_create != 0) return errno_error(fail_create);
    LAYERFS_TRY(follow_plan());
    return inner_->create_data(ino);
  }
  Result<std::shared_ptr<const Fd>> open_data(Ino ino) const override {
    ++opens;
    LAYERFS_TRY(follow_plan());
    if (fail_open != 0) return errno_error(std::exchange(const_cast<int&>(fail_open), 0));
    return inner_->open_data(ino);
  }
  Result<tree::DataPlace> create_shared(Ino ino) override {
    if (fail_create != 0) return errno_error(fail_create);
    LAYERFS_TRY(follow_plan());
    return inner_->create_shared(ino);
  }
  Result<tree::DataPlace> open_shared(Ino ino) const override {
    ++opens;
    LAYERFS_TRY(follow_plan());
    if (fail_open != 0) return errno_error(std::exchange(const_cast<int&>(fail_open), 0));
    return inner_->open_shared(ino);
  }
  Result<void> sync_node(Ino ino, FsyncKind kind) override {
    LAYERFS_TRY(follow_plan());
    return inner_->sync_node(ino, kind);
  }
  Result<void> sync() override {
    LAYERFS_TRY(follow_plan());
    return inner_->sync();
  }
  Result<struct statvfs> stat_fs() const override { return inner_->stat_fs(); }
  bool read_only() const override { return inner_->read_only(); }

 private:
  Result<void> follow_plan() const {
    return plan != nullptr && plan->hits() ? errno_error(plan->code) : Result<void>{};
  }
  std::shared_ptr<tree::UpperLayer> inner_;
};

class UnionTest : public ::testing::Test {
 protected:
  UnionTest()
      : lower_(std::make_shared<tree::MemoryTree>()),
        blobs_(std::make_shared<tree::MemoryBlobs>()),
        upper_(std::make_shared<FaultyUpper>(upper::make_memory_upper())) {}

  // What the lower tree has. Before mount().
  Ino lower_dir(Ino parent, const std::string& name, std::uint16_t mode = 0755) {
    Node node;
    node.kind = NodeKind::kDirectory;
    node.mode = mode;
    return lower_->add_node(parent, name, node, {}, {});
  }
  Ino lower_file(Ino parent, const std::string& name, const std::string& bytes, tree::XattrList xattrs = {}) {
    Node node;
    node.mode = 0644;
    node.size = bytes.size();
    node.mtime = node.ctime = node.atime = {1000, 1};
    node.content = bytes.empty() ? tree::ContentKind::kNone : tree::ContentKind::kObject;
    if (!bytes.empty()) node.object = blobs_->put(bytes).value();
    return lower_->add_node(parent, name, node, {}, std::move(xattrs));
  }
  Ino lower_symlink(Ino parent, const std::string& name, const std::string& target) {
    Node node;
    node.kind = NodeKind::kSymlink;
    node.content = tree::ContentKind::kInline;
    node.mode = 0777;
    node.size = target.size();
    return lower_->add_node(parent, name, node, target, {});
  }

  void mount(UnionOptions options = {}) {
    fs_.reset();
    auto made = UnionFs::make(lower_, blobs_, upper_, options);
    ASSERT_TRUE(made.has_value()) << made.error().message();
    fs_ = std::move(*made);
  }
  UnionFs& fs() { return *fs_; }

  /// By path; holds no lookup.
  Result<Entry> find(const std::string& path) {
    Entry at{tree::kRootIno, *fs_->getattr(tree::kRootIno)};
    std::size_t begin = 0;
    while (begin < path.size()) {
      std::size_t end = std::min(path.find('/', begin), path.size());
      auto next = fs_->lookup(at.ino, path.substr(begin, end - begin));
      if (!next) return next;
      fs_->forget(next->ino, 1);
      at = *next;
      begin = end + 1;
    }
    return at;
  }
  Ino ino(const std::string& path) {
    auto found = find(path);
    EXPECT_TRUE(found.has_value()) << path;
    return found ? found->ino : Ino{0};
  }
  Node node(const std::string& path) {
    auto found = find(path);
    EXPECT_TRUE(found.has_value()) << path;
    return found ? found->node : Node{};
  }
  static std::string name_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }
  Ino dir_of(const std::string& path) {
    auto slash = path.rfind('/');
    return slash == path.npos ? tree::kRootIno : ino(path.substr(0, slash));
  }

  // Changes by path, without a lookup left behind. They answer an errno.
  int forgotten(const Result<Entry>& entry) {
    if (entry) fs_->forget(entry->ino, 1);
    return code(entry);
  }
  int make_file(const std::string& path, mode_t mode = 0644, const Caller& caller = {}) {
    return forgotten(fs_->mknod(dir_of(path), name_of(path), S_IFREG | mode, 0, caller));
  }
  int make_dir(const std::string& path, mode_t mode = 0755, const Caller& caller = {}) {
    return forgotten(fs_->mkdir(dir_of(path), name_of(path), mode, caller));
  }
  int unlink(const std::string& path) { return code(fs_->unlink(dir_of(path), name_of(path), {})); }
  int rmdir(const std::string& path) { return code(fs_->rmdir(dir_of(path), name_of(path), {})); }
  int rename(const std::string& from, const std::string& to, unsigned flags = 0) {
    return code(fs_->rename(dir_of(from), name_of(from), dir_of(to), name_of(to), flags, {}));
  }
  int link(const std::string& from, const std::string& to) {
    return forgotten(fs_->link(ino(from), dir_of(to), name_of(to), {}));
  }
  int write_ino(Ino file, std::uint64_t offset, const std::string& data, WriteFlags flags = {}) {
    auto count = fs_->write(file, offset, as_bytes(data), flags, {});
    EXPECT_EQ(count.value_or(data.size()), data.size());
    return code(count);
  }
  int write(const std::string& path, std::uint64_t offset, const std::string& data, WriteFlags flags = {}) {
    return write_ino(ino(path), offset, data, flags);
  }
  int set(const std::string& path, const SetAttr& changes) {
    return code(fs_->setattr(ino(path), changes, {}));
  }
  std::string read_ino(Ino file) {
    auto size = fs_->getattr(file)->size;
    std::string bytes(size + 1, '#');
    auto count = fs_->read(file, 0, std::as_writable_bytes(std::span(bytes)));
    EXPECT_TRUE(count.has_value()) << count.error().message();
    bytes.resize(count.value_or(0));
    return bytes;
  }
  std::string read(const std::string& path) { return read_ino(ino(path)); }
  /// Names in alphabetical order, without dots.
  std::string names(const std::string& path) {
    std::vector<std::string> all;
    EXPECT_TRUE(fs_->readdir(ino(path), tree::kDotDotCookie, [&](const EntryView& entry) {
      all.emplace_back(entry.name);
      return true;
    }));
    std::sort(all.begin(), all.end());
    std::string text;
    for (const auto& name : all) text += (text.empty() ? "" : " ") + name;
    return text;
  }
  void expect_sound() { EXPECT_EQ(check_upper(*fs_, *lower_, *upper_), ""); }
  std::size_t entries_in_upper(Ino dir) {
    std::size_t count = 0;
    upper_->list_entries(dir, tree::kDirStart, [&](const tree::UpperEntryView&) { return ++count, true; });
    return count;
  }

  std::shared_ptr<tree::MemoryTree> lower_;
  std::shared_ptr<tree::MemoryBlobs> blobs_;
  std::shared_ptr<FaultyUpper> upper_;
  std::unique_ptr<UnionFs> fs_;
};

}  // namespace layerfs::unionfs
