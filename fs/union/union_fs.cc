// SPDX-License-Identifier: Apache-2.0
// What all calls share: the start, locking of names, the pieces that ChangeSets are made of, freeze and sync.
#include "fs/union/union_fs.h"

#include <time.h>

#include <utility>

#include "fs/base/log.h"
#include "fs/union/union.h"

namespace layerfs::unionfs {

namespace {

/// Tombstones that one change takes out of a directory that is gone: a record of the upper's log holds as
/// many of the longest names, and an emptied directory of the tree may have any number.
constexpr std::size_t kErasedAtOnce = 1000;

}  // namespace

Time now(std::initializer_list<Time> before) {
  auto read = [](clockid_t clock) {
    struct timespec time{};
    ::clock_gettime(clock, &time);
    return Time{time.tv_sec, static_cast<std::uint32_t>(time.tv_nsec)};
  };
  Time tick = read(CLOCK_REALTIME_COARSE);
  return before.size() == 0 || tick > std::max(before) ? tick : read(CLOCK_REALTIME);
}

bool is_dot_or_dotdot(std::string_view name) { return name == "." || name == ".."; }

Result<void> check_name(std::string_view name) {
  if (name.empty()) return errno_error(ENOENT);
  if (name.size() > tree::kMaxName) return errno_error(ENAMETOOLONG);
  if (name.find('/') != name.npos || name.find('\0') != name.npos) return errno_error(EINVAL);
  return {};
}

Result<std::unique_ptr<UnionFs>> UnionFs::make(std::shared_ptr<const tree::TreeSource> lower,
                                               std::shared_ptr<const tree::BlobSource> blobs,
                                               std::shared_ptr<tree::UpperLayer> upper,
                                               UnionOptions options) {
  auto made = std::make_unique<Union>(std::move(lower), std::move(blobs), std::move(upper), options);
  LAYERFS_TRY(made->begin());
  return made;
}

Union::Union(std::shared_ptr<const tree::TreeSource> lower, std::shared_ptr<const tree::BlobSource> blobs,
             std::shared_ptr<tree::UpperLayer> upper, UnionOptions options)
    : lower_(std::move(lower)),
      blobs_(std::move(blobs)),
      upper_(std::move(upper)),
      options_(options),
      view_(*lower_, upper_.get()),
      descriptors_(blobs_.get(), upper_.get(), DescriptorCache::default_capacity()),
      content_(view_, descriptors_, upper_.get(), options.whole_copy_limit) {}

Result<void> Union::begin() {
  LAYERFS_ASSIGN(auto root, view_.find_node(tree::kRootIno));
  if (!root || root->kind != NodeKind::kDirectory)
    return corrupt_error("open the file system", "/", "the tree has no root directory");
  if (!check_writable() || options_.keep_orphans) return {};
  for (Ino ino : upper_->orphans()) erase_if_unused(ino);
  return {};
}

Result<void> Union::check_writable() const {
  if (options_.read_only || !upper_ || upper_->read_only()) return errno_error(EROFS);
  return {};
}

bool Union::was_done(const Caller& caller) const {
  return caller.resent && upper_->was_applied(caller.request);
}

tree::ChangeSet Union::change_of(const Caller& caller) {
  tree::ChangeSet set;
  set.request = caller.request;
  return set;
}

tree::ChangeSet Union::metadata_change_of(const Caller& caller) {
  tree::ChangeSet set = change_of(caller);
  set.written = tree::WrittenRange{tree::kRootIno, 0, 0};
  return set;
}

Result<Node> Union::get_live_directory(Ino dir) const {
  LAYERFS_ASSIGN(Node node, view_.get_node(dir));
  if (node.kind != NodeKind::kDirectory) return errno_error(ENOTDIR);
  if (node.nlink == 0) return errno_error(ENOENT);
  return node;
}

Result<Node> Union::get_regular(Ino ino) const {
  LAYERFS_ASSIGN(Node node, view_.get_node(ino));
  if (node.kind == NodeKind::kDirectory) return errno_error(EISDIR);
  if (node.kind != NodeKind::kRegular) return errno_error(EINVAL);
  return node;
}

Result<void> Union::lock_dentries(ExclusiveLocks& locks, std::span<Dentry> dentries, Ino extra) const {
  std::array<Ino, ExclusiveLocks::kMost> wanted{};
  std::size_t known = 0;
  for (const Dentry& dentry : dentries) wanted[known++] = dentry.dir;
  if (extra != Ino{0}) wanted[known++] = extra;
  std::size_t count = known;
  for (;;) {
    locks.lock({wanted.data(), count});
    bool complete = true;
    count = known;
    for (Dentry& dentry : dentries) {
      LAYERFS_ASSIGN(dentry.entry, view_.find_entry(dentry.dir, dentry.name));
      if (!dentry.entry) continue;
      wanted[count++] = dentry.entry->ino;
      complete = locks.try_add(dentry.entry->ino) && complete;
    }
    if (complete) break;
    locks.release();
  }
  // A node is read again now that it can't change: what find_entry saw may be older than its lock.
  for (Dentry& dentry : dentries) {
    if (!dentry.entry) continue;
    if (auto node = upper_->find_node(dentry.entry->ino)) dentry.entry->node = *node;
  }
  return {};
}

Result<void> Union::put_node(tree::ChangeSet& set, Ino ino, const Node& node) const {
  set.changes.emplace_back(tree::PutNode{ino, node});
  if (node.content != tree::ContentKind::kInline || upper_->find_node(ino)) return {};
  // The first change to it: its bytes move along, so that the upper's node is whole.
  LAYERFS_ASSIGN(std::string bytes, view_.get_inline(ino));
  set.changes.emplace_back(tree::PutInline{ino, std::move(bytes)});
  return {};
}

Result<void> Union::put_name(tree::ChangeSet& set, Ino dir, std::string_view name, Ino ino,
                             NodeKind kind) const {
  LAYERFS_ASSIGN(auto below, view_.find_entry_below(dir, name));
  if (below == ino)
    set.changes.emplace_back(tree::EraseEntry{dir, std::string(name)});
  else
    set.changes.emplace_back(tree::PutEntry{dir, std::string(name), ino, kind});
  return {};
}

Result<void> Union::remove_name(tree::ChangeSet& set, Ino dir, std::string_view name) const {
  LAYERFS_ASSIGN(auto below, view_.find_entry_below(dir, name));
  if (below)
    set.changes.emplace_back(tree::PutTombstone{dir, std::string(name)});
  else
    set.changes.emplace_back(tree::EraseEntry{dir, std::string(name)});
  return {};
}

Result<void> Union::remove_xattr(tree::ChangeSet& set, Ino ino, std::string_view name) const {
  LAYERFS_ASSIGN(bool below, view_.has_xattr_below(ino, name));
  if (below)
    set.changes.emplace_back(tree::PutXattrTombstone{ino, std::string(name)});
  else
    set.changes.emplace_back(tree::EraseXattr{ino, std::string(name)});
  return {};
}

Result<void> Union::drop_link(tree::ChangeSet& set, Ino ino, Node node, Time time) const {
  node.nlink = node.kind == NodeKind::kDirectory ? 0 : node.nlink - 1;
  node.ctime = time;
  if (node.nlink == 0 && !is_held(ino) && erase(set, ino, node)) return {};
  return put_node(set, ino, node);
}

bool Union::erase(tree::ChangeSet& set, Ino ino, const Node& node) const {
  if (node.kind == NodeKind::kDirectory) {
    // What is left in an empty directory: tombstones, which nobody can ask for any more.
    std::size_t count = 0;
    upper_->list_entries(ino, tree::kDirStart, [&](const tree::UpperEntryView& entry) {
      if (++count > kErasedAtOnce) return false;
      set.changes.emplace_back(tree::EraseEntry{ino, std::string(entry.name)});
      return true;
    });
    if (count > kErasedAtOnce) return false;
  }
  set.changes.emplace_back(tree::EraseNode{ino});
  return true;
}

Result<void> Union::apply(const tree::ChangeSet& set) {
  LAYERFS_TRY(upper_->apply(set));
  for (const tree::Change& change : set.changes)
    if (const auto* erased = std::get_if<tree::EraseNode>(&change)) descriptors_.drop_data(erased->ino);
  return {};
}

bool Union::erase_if_unused(Ino ino) {
  ExclusiveLocks locks(locks_, ino);
  return erase_if_forgotten(ino);
}

bool Union::erase_if_forgotten(Ino ino) {
  auto node = upper_->find_node(ino);
  if (!node || node->nlink != 0 || is_held(ino)) return true;
  for (bool is_gone = false; !is_gone;) {
    tree::ChangeSet set;
    is_gone = erase(set, ino, *node);
    auto done = apply(set);
    if (done) continue;
    // It stays an orphan until then, at the longest until the next start.
    log_warning("forget an unlinked file: {}", done.error().message());
    std::lock_guard hold(refused_mutex_);
    refused_.push_back(ino);
    return false;
  }
  return true;
}

void Union::erase_refused() {
  std::vector<Ino> unused;
  {
    std::lock_guard hold(refused_mutex_);
    unused.swap(refused_);
  }
  for (Ino ino : unused) erase_if_unused(ino);
}

bool Union::is_held(Ino ino) const {
  return counts_.count(ino) != 0 || (held_by_kernel_ && held_by_kernel_(ino));
}

void Union::inherit_lookups(std::function<bool(Ino)> is_held) {
  held_by_kernel_ = std::move(is_held);
  if (!check_writable()) return;
  // Their FORGET may have died with the server that read it.
  for (Ino ino : upper_->orphans()) erase_if_unused(ino);
}

void Union::forget(Ino ino, std::uint64_t count) {
  if (counts_.remove(ino, count) != 0 || !upper_) return;
  auto node = upper_->find_node(ino);
  if (!node || node->nlink != 0 || !check_writable()) return;
  {
    std::lock_guard hold(deferred_mutex_);
    if (!gate_.try_enter()) {
      deferred_.push_back(ino);
      return;
    }
  }
  // What the upper refused to erase it may take now, as it took this one.
  if (erase_if_unused(ino)) erase_refused();
  gate_.leave();
}

Result<void> Union::freeze() {
  if (!gate_.close()) return errno_error(EBUSY);
  if (!upper_) return {};
  auto done = upper_->sync();
  if (!done) thaw();
  return done;
}

void Union::thaw() {
  std::vector<Ino> unused;
  {
    // Under the lock: a forget() that finds the gate closed has its number in the list before this opens it.
    std::lock_guard hold(deferred_mutex_);
    gate_.open();
    unused.swap(deferred_);
  }
  for (Ino ino : unused) {
    FreezeGate::Pass pass(gate_);
    erase_if_unused(ino);
  }
}

Result<void> Union::fsync(Ino ino, FsyncKind kind) {
  if (options_.is_volatile || !upper_ || upper_->read_only()) return {};
  return upper_->sync_node(ino, kind);
}

Result<void> Union::fsyncdir(Ino ino) { return fsync(ino, FsyncKind::kAll); }

Result<void> Union::sync() {
  if (options_.is_volatile || !upper_ || upper_->read_only()) return {};
  return upper_->sync();
}

Result<struct statvfs> Union::statfs() {
  struct statvfs stats{};
  if (upper_) {
    LAYERFS_ASSIGN(stats, upper_->stat_fs());
  } else {
    // Nothing can be added to a tree: full, and as many files as there are numbers.
    stats.f_bsize = stats.f_frsize = 4096;
    stats.f_files = to_number(lower_->max_ino());
  }
  stats.f_namemax = tree::kMaxName;
  return stats;
}

}  // namespace layerfs::unionfs
