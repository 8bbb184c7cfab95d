// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/memory_upper.h"

#include <sys/mman.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <unordered_set>

#include "fs/base/sys_file.h"

namespace layerfs::upper {

namespace {

using namespace tree;

using ExtentEnds = std::map<std::uint64_t, std::uint64_t>;  // offset -> end; sorted, disjoint, not touching

void add_extent(ExtentEnds& extents, std::uint64_t begin, std::uint64_t end) {
  if (begin >= end) return;
  auto next = extents.upper_bound(begin);
  if (next != extents.begin() && std::prev(next)->second >= begin) --next;
  while (next != extents.end() && next->first <= end) {
    begin = std::min(begin, next->first);
    end = std::max(end, next->second);
    next = extents.erase(next);
  }
  extents.emplace(begin, end);
}

void trim_extents(ExtentEnds& extents, std::uint64_t size) {
  extents.erase(extents.lower_bound(size), extents.end());
  if (!extents.empty()) extents.rbegin()->second = std::min(extents.rbegin()->second, size);
}

class MemoryUpper final : public UpperLayer {
 public:
  std::optional<Node> find_node(Ino ino) const override {
    std::shared_lock hold(mutex_);
    auto found = nodes_.find(ino);
    return found == nodes_.end() ? std::nullopt : std::optional(found->second);
  }

  UpperEntry find_entry(Ino dir, std::string_view name) const override {
    std::shared_lock hold(mutex_);
    auto directory = directories_.find(dir);
    if (directory == directories_.end()) return {};
    auto found = directory->second.find({name_cookie(name), std::string(name)});
    return found == directory->second.end() ? UpperEntry{} : found->second;
  }

  void list_entries(Ino dir, DirCookie after, FunctionRef<bool(const UpperEntryView&)> visit) const override {
    std::shared_lock hold(mutex_);
    auto directory = directories_.find(dir);
    if (directory == directories_.end()) return;
    auto entry = directory->second.lower_bound({DirCookie{to_number(after) + 1}, std::string()});
    for (; entry != directory->second.end(); ++entry) {
      const auto& [cookie, name] = entry->first;
      const UpperEntry& is = entry->second;
      if (!visit({cookie, name, is.state, is.ino, is.kind})) return;
    }
  }

  XattrState find_xattr(Ino ino, std::string_view name, std::string& value) const override {
    std::shared_lock hold(mutex_);
    auto of_node = xattrs_.find(ino);
    if (of_node == xattrs_.end()) return XattrState::kAbsent;
    auto found = of_node->second.find(name);
    if (found == of_node->second.end()) return XattrState::kAbsent;
    if (!found->second) return XattrState::kTombstone;
    value = *found->second;
    return XattrState::kPresent;
  }

  void list_xattrs(Ino ino,
                   FunctionRef<bool(std::string_view, XattrState, std::string_view)> visit) const override {
    std::shared_lock hold(mutex_);
    auto of_node = xattrs_.find(ino);
    if (of_node == xattrs_.end()) return;
    for (const auto& [name, value] : of_node->second) {
      bool go_on =
          value ? visit(name, XattrState::kPresent, *value) : visit(name, XattrState::kTombstone, {});
      if (!go_on) return;
    }
  }

  Result<std::string> get_inline(Ino ino) const override {
    std::shared_lock hold(mutex_);
    auto found = inline_.find(ino);
    if (found == inline_.end()) return errno_error(ENOENT);
    return found->second;
  }

  std::vector<Extent> extents(Ino ino) const override {
    std::shared_lock hold(mutex_);
    std::vector<Extent> all;
    auto found = extents_.find(ino);
    if (found == extents_.end()) return all;
    for (auto [offset, end] : found->second) all.push_back({offset, end - offset});
    return all;
  }

  std::vector<Ino> orphans() const override {
    std::shared_lock hold(mutex_);
    std::vector<Ino> all;
    for (const auto& [ino, node] : nodes_)
      if (node.nlink == 0) all.push_back(ino);
    return all;
  }

  void for_each_changed(FunctionRef<bool(Ino, const ChangedParts&)> visit) const override {
    std::shared_lock hold(mutex_);
    std::map<Ino, ChangedParts> changed;
    for (const auto& [ino, node] : nodes_) changed[ino].node = true;
    for (const auto& [ino, entries] : directories_) changed[ino].entries = true;
    for (const auto& [ino, of_node] : xattrs_) changed[ino].xattrs = true;
    for (const auto& [ino, parts] : changed)
      if (!visit(ino, parts)) return;
  }

  Result<void> apply(const ChangeSet& change) override {
    std::unique_lock hold(mutex_);
    for (const Change& one : change.changes) std::visit([this](const auto& what) { make(what); }, one);
    if (change.request != 0) requests_.insert(change.request);
    return {};
  }

  bool was_applied(std::uint64_t request) const override {
    std::shared_lock hold(mutex_);
    return requests_.contains(request);
  }

  Ino allocate_ino() override {
    std::unique_lock hold(mutex_);
    return Ino{next_ino_++};
  }

  Result<std::shared_ptr<const Fd>> create_data(Ino ino) override {
    std::unique_lock hold(mutex_);
    auto& file = data_[ino];
    if (file) return file;
    Fd fd(::memfd_create("layerfs-data", MFD_CLOEXEC));
    int code = errno;
    if (!fd) {
      data_.erase(ino);
      return system_error(code, "create data file");
    }
    file = std::make_shared<const Fd>(std::move(fd));
    return file;
  }

  Result<std::shared_ptr<const Fd>> open_data(Ino ino) const override {
    std::shared_lock hold(mutex_);
    auto found = data_.find(ino);
    if (found == data_.end()) return errno_error(ENOENT);
    return found->second;
  }

  Result<DataPlace> create_shared(Ino ino) override {
    std::unique_lock hold(mutex_);
    auto& file = shared_[to_number(ino) / kSharers];
    if (!file) {
      Fd fd(::memfd_create("layerfs-shared", MFD_CLOEXEC));
      int code = errno;
      if (!fd) {
        shared_.erase(to_number(ino) / kSharers);
        return system_error(code, "create data file");
      }
      file = std::make_shared<const Fd>(std::move(fd));
    }
    DataPlace place = place_of(ino, file);
    LAYERFS_TRY(zero_range(place.fd(), place.offset, place.limit));
    return place;
  }

  Result<DataPlace> open_shared(Ino ino) const override {
    std::shared_lock hold(mutex_);
    auto found = shared_.find(to_number(ino) / kSharers);
    auto node = nodes_.find(ino);
    if (found == shared_.end() || node == nodes_.end() || node->second.content != ContentKind::kShared)
      return errno_error(ENOENT);
    return place_of(ino, found->second);
  }

  Result<void> sync_node(Ino, FsyncKind) override { return {}; }
  Result<void> sync() override { return {}; }

  Result<struct statvfs> stat_fs() const override {
    struct statvfs stats{};
    stats.f_bsize = stats.f_frsize = 4096;
    stats.f_blocks = stats.f_bfree = stats.f_bavail = std::uint64_t{1} << 20;
    stats.f_files = stats.f_ffree = stats.f_favail = std::uint64_t{1} << 20;
    stats.f_namemax = kMaxName;
    return stats;
  }

  bool read_only() const override { return false; }

 private:
  static constexpr std::uint64_t kSharers = 4;
  static DataPlace place_of(Ino ino, std::shared_ptr<const Fd> file) {
    return {std::move(file), to_number(ino) % kSharers * kSharedLimit, kSharedLimit};
  }

  void make(const PutNode& put) { nodes_.insert_or_assign(put.ino, put.node); }
  void make(const EraseNode& erase) {
    nodes_.erase(erase.ino);
    xattrs_.erase(erase.ino);
    inline_.erase(erase.ino);
    extents_.erase(erase.ino);
    data_.erase(erase.ino);
  }
  void make(const PutEntry& put) {
    directories_[put.dir].insert_or_assign({name_cookie(put.name), put.name},
                                           UpperEntry{EntryState::kPresent, put.ino, put.kind});
  }
  void make(const PutTombstone& put) {
    directories_[put.dir].insert_or_assign({name_cookie(put.name), put.name},
                                           UpperEntry{EntryState::kTombstone, Ino{0}, NodeKind::kRegular});
  }
  void make(const EraseEntry& erase) {
    auto directory = directories_.find(erase.dir);
    if (directory == directories_.end()) return;
    directory->second.erase({name_cookie(erase.name), erase.name});
    if (directory->second.empty()) directories_.erase(directory);
  }
  void make(const PutXattr& put) { xattrs_[put.ino].insert_or_assign(put.name, put.value); }
  void make(const PutXattrTombstone& put) { xattrs_[put.ino].insert_or_assign(put.name, std::nullopt); }
  void make(const EraseXattr& erase) {
    auto of_node = xattrs_.find(erase.ino);
    if (of_node == xattrs_.end()) return;
    of_node->second.erase(erase.name);
    if (of_node->second.empty()) xattrs_.erase(of_node);
  }
  void make(const PutInline& put) { inline_.insert_or_assign(put.ino, put.bytes); }
  void make(const AddExtent& add) { add_extent(extents_[add.ino], add.offset, add.offset + add.length); }
  void make(const TrimExtents& trim) {
    auto found = extents_.find(trim.ino);
    if (found == extents_.end()) return;
    trim_extents(found->second, trim.size);
    if (found->second.empty()) extents_.erase(found);
  }

  mutable std::shared_mutex mutex_;  // guards all below
  std::map<Ino, Node> nodes_;
  std::map<Ino, std::map<std::pair<DirCookie, std::string>, UpperEntry>> directories_;
  std::map<Ino, std::map<std::string, std::optional<std::string>, std::less<>>>
      xattrs_;  // nullopt: tombstone
  std::map<Ino, std::string> inline_;
  std::map<Ino, ExtentEnds> extents_;
  std::map<Ino, std::shared_ptr<const Fd>> data_;
  std::map<std::uint64_t, std::shared_ptr<const Fd>> shared_;  // by the number of the inode / kSharers
  std::unordered_set<std::uint64_t> requests_;
  std::uint64_t next_ino_ = kFirstUpperIno;
};

}  // namespace

std::unique_ptr<tree::UpperLayer> make_memory_upper() { return std::make_unique<MemoryUpper>(); }

}  // namespace layerfs::upper
