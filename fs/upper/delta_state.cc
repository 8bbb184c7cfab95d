// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/delta_state.h"

#include <algorithm>
#include <utility>
#include <variant>

namespace layerfs::upper {

using tree::Ino;
using tree::Node;
using tree::NodeKind;

const DeltaState::Item* DeltaState::item(Ino ino) const {
  const auto found = inodes_.find(to_number(ino));
  return found == inodes_.end() ? nullptr : &found->second;
}
DeltaState::Item* DeltaState::item(Ino ino) {
  const auto found = inodes_.find(to_number(ino));
  return found == inodes_.end() ? nullptr : &found->second;
}
const DeltaState::Extra* DeltaState::extra(Ino ino) const {
  const Item* found = item(ino);
  return found == nullptr ? nullptr : found->extra.get();
}
DeltaState::Extra* DeltaState::extra(Ino ino) {
  Item* found = item(ino);
  return found == nullptr ? nullptr : found->extra.get();
}
DeltaState::Extra& DeltaState::make_extra(Ino ino) {
  Item& made = make_item(ino);
  if (!made.extra) made.extra = std::make_unique<Extra>();
  return *made.extra;
}

void DeltaState::tidy(Ino ino) {
  const auto found = inodes_.find(to_number(ino));
  if (found == inodes_.end()) return;
  Item& one = found->second;
  if (one.extra && one.extra->empty()) one.extra.reset();
  if (!one.has_node && !one.extra) inodes_.erase(found);
}

void DeltaState::store_node(Item& item, const Node& node) {
  item.seconds[0] = node.mtime.seconds;
  item.seconds[1] = node.ctime.seconds;
  item.seconds[2] = node.atime.seconds;
  item.nanoseconds[0] = node.mtime.nanoseconds;
  item.nanoseconds[1] = node.ctime.nanoseconds;
  item.nanoseconds[2] = node.atime.nanoseconds;
  item.size = node.size;
  item.parent = to_number(node.parent);
  item.uid = to_number(node.uid);
  item.gid = to_number(node.gid);
  item.nlink = node.nlink;
  item.mode = node.mode;
  item.kind = node.kind;
  item.content = node.content;
  item.data_reaches = node.data_reaches;
  item.has_node = true;
  if (!item.extra && (!node.object.is_zero() || node.base_size != 0 || node.rdev != 0))
    item.extra = std::make_unique<Extra>();
  if (item.extra) {
    item.extra->rdev = node.rdev;
    item.extra->object = node.object;
    item.extra->base_size = node.base_size;
    if (item.extra->empty()) item.extra.reset();
  }
}

Node DeltaState::load_node(const Item& item) {
  Node node;
  node.kind = item.kind;
  node.content = item.content;
  node.data_reaches = item.data_reaches;
  node.mode = item.mode;
  node.uid = tree::Uid{item.uid};
  node.gid = tree::Gid{item.gid};
  node.nlink = item.nlink;
  node.size = item.size;
  node.parent = Ino{item.parent};
  node.mtime = {item.seconds[0], item.nanoseconds[0]};
  node.ctime = {item.seconds[1], item.nanoseconds[1]};
  node.atime = {item.seconds[2], item.nanoseconds[2]};
  if (item.extra) {
    node.rdev = item.extra->rdev;
    node.object = item.extra->object;
    node.base_size = item.extra->base_size;
  }
  return node;
}

std::optional<Node> DeltaState::find_node(Ino ino) const {
  const Item* found = item(ino);
  if (found == nullptr || !found->has_node) return std::nullopt;
  return load_node(*found);
}

tree::UpperEntry DeltaState::find_entry(Ino dir, std::string_view name) const {
  const auto found = directories_.find(to_number(dir));
  return found == directories_.end() ? tree::UpperEntry{} : found->second.find(name);
}

void DeltaState::list_entries(Ino dir, tree::DirCookie after,
                              FunctionRef<bool(const tree::UpperEntryView&)> visit) const {
  const auto found = directories_.find(to_number(dir));
  if (found != directories_.end()) found->second.list(after, visit);
}

tree::XattrState DeltaState::find_xattr(Ino ino, std::string_view name, std::string& value) const {
  const Extra* found = extra(ino);
  if (found == nullptr) return tree::XattrState::kAbsent;
  const auto xattr = found->xattrs.find(name);
  if (xattr == found->xattrs.end()) return tree::XattrState::kAbsent;
  if (!xattr->second) return tree::XattrState::kTombstone;
  value = *xattr->second;
  return tree::XattrState::kPresent;
}

void DeltaState::list_xattrs(
    Ino ino, FunctionRef<bool(std::string_view, tree::XattrState, std::string_view)> visit) const {
  const Extra* found = extra(ino);
  if (found == nullptr) return;
  for (const auto& [name, value] : found->xattrs) {
    const auto state = value ? tree::XattrState::kPresent : tree::XattrState::kTombstone;
    if (!visit(name, state, value ? std::string_view(*value) : std::string_view())) return;
  }
}

const std::string* DeltaState::find_inline(Ino ino) const {
  const Extra* found = extra(ino);
  return found == nullptr || !found->inline_bytes ? nullptr : &*found->inline_bytes;
}

std::vector<tree::Extent> DeltaState::extents(Ino ino) const {
  const Extra* found = extra(ino);
  return found == nullptr ? std::vector<tree::Extent>{} : found->extents.list();
}

std::vector<tree::Extent> DeltaState::extents_within(Ino ino, std::uint64_t begin, std::uint64_t end) const {
  const Extra* found = extra(ino);
  return found == nullptr ? std::vector<tree::Extent>{} : found->extents.list_within(begin, end);
}

std::vector<Ino> DeltaState::orphans() const {
  std::vector<Ino> found;
  for (const auto& [ino, one] : inodes_)
    if (one.has_node && one.nlink == 0) found.push_back(Ino{ino});
  std::sort(found.begin(), found.end());
  return found;
}

void DeltaState::for_each_changed(FunctionRef<bool(Ino, const tree::ChangedParts&)> visit) const {
  std::vector<std::uint64_t> numbers;
  numbers.reserve(inodes_.size() + directories_.size());
  for (const auto& [ino, one] : inodes_) numbers.push_back(ino);
  for (const auto& [ino, entries] : directories_) numbers.push_back(ino);
  std::sort(numbers.begin(), numbers.end());
  numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
  for (const std::uint64_t ino : numbers) {
    const Item* one = item(Ino{ino});
    tree::ChangedParts parts;
    parts.node = one != nullptr && one->has_node;
    parts.xattrs = one != nullptr && one->extra && !one->extra->xattrs.empty();
    parts.entries = directories_.contains(ino);
    if ((parts.node || parts.entries || parts.xattrs) && !visit(Ino{ino}, parts)) return;
  }
}

/// The effect of each kind of change.
class DeltaState::Applier {
 public:
  Applier(DeltaState& state, DataEffects& effects, std::uint64_t record)
      : state_(state), effects_(effects), record_(record) {}

  void operator()(const tree::PutNode& change) {
    Item& one = state_.make_item(change.ino);
    const Node& node = change.node;
    // A change of the attributes alone moves ctime and leaves mtime; whatever else may follow a write, also
    // one in the same tick of the clock, which moves neither.
    const bool same_content = one.has_node && one.content == node.content && one.size == node.size &&
                              one.seconds[0] == node.mtime.seconds &&
                              one.nanoseconds[0] == node.mtime.nanoseconds;
    const bool ctime_moved = one.has_node && (one.seconds[1] != node.ctime.seconds ||
                                              one.nanoseconds[1] != node.ctime.nanoseconds);
    const bool names_data = has_data_file(node.content) && !(same_content && ctime_moved);
    // It has become too large for its place.
    if (one.has_node && one.content == tree::ContentKind::kShared &&
        node.content != tree::ContentKind::kShared)
      effects_.erased.push_back({change.ino, one.content});
    const Extra* extra = one.extra.get();
    if (!one.has_node || one.kind != node.kind || one.content != node.content || one.size != node.size ||
        (extra == nullptr ? !node.object.is_zero() || node.base_size != 0
                          : extra->object != node.object || extra->base_size != node.base_size))
      one.needed_record = record_;
    store_node(one, node);
    if (names_data) note_data(change.ino, one);
    if (to_number(change.ino) >= state_.next_ino_) state_.next_ino_ = to_number(change.ino) + 1;
  }
  void operator()(const tree::EraseNode& change) {
    const auto found = state_.inodes_.find(to_number(change.ino));
    // A node that never was a regular file has no data file; of one that is not here nothing is known.
    if (found == state_.inodes_.end() || !found->second.has_node ||
        found->second.kind == NodeKind::kRegular) {
      const auto content = found == state_.inodes_.end() ? tree::ContentKind::kNone : found->second.content;
      effects_.erased.push_back(
          {change.ino, content == tree::ContentKind::kShared ? content : tree::ContentKind::kData});
      // What was allocated beyond the size is told by base_size, as holes are.
      const Extra* extra = found == state_.inodes_.end() ? nullptr : found->second.extra.get();
      if (has_data_file(content))
        effects_.erased_bytes +=
            std::max(found->second.size, extra != nullptr && extra->object.is_zero() ? extra->base_size : 0);
    }
    if (found != state_.inodes_.end()) state_.inodes_.erase(found);
  }
  void operator()(const tree::PutEntry& change) {
    directory(change.dir).put(change.name, {tree::EntryState::kPresent, change.ino, change.kind});
  }
  void operator()(const tree::PutTombstone& change) {
    directory(change.dir).put(change.name, {tree::EntryState::kTombstone, Ino{0}, NodeKind::kRegular});
  }
  void operator()(const tree::EraseEntry& change) {
    const auto found = state_.directories_.find(to_number(change.dir));
    if (found == state_.directories_.end()) return;
    found->second.erase(change.name);
    if (found->second.empty()) state_.directories_.erase(found);
  }
  void operator()(const tree::PutXattr& change) {
    state_.make_extra(change.ino).xattrs.insert_or_assign(change.name, change.value);
  }
  void operator()(const tree::PutXattrTombstone& change) {
    state_.make_extra(change.ino).xattrs.insert_or_assign(change.name, std::nullopt);
  }
  void operator()(const tree::EraseXattr& change) {
    Extra* found = state_.extra(change.ino);
    if (found == nullptr) return;
    const auto xattr = found->xattrs.find(change.name);
    if (xattr == found->xattrs.end()) return;
    found->xattrs.erase(xattr);
    state_.tidy(change.ino);
  }
  void operator()(const tree::PutInline& change) {
    state_.make_extra(change.ino).inline_bytes = change.bytes;
    state_.item(change.ino)->needed_record = record_;
  }
  void operator()(const tree::AddExtent& change) {
    if (change.length == 0) return;
    if (state_.make_extra(change.ino).extents.add(change.offset, change.length))
      state_.item(change.ino)->needed_record = record_;
    note_data(change.ino, *state_.item(change.ino));
  }
  void operator()(const tree::TrimExtents& change) {
    Extra* found = state_.extra(change.ino);
    if (found == nullptr) return;
    found->extents.trim(change.size);
    state_.item(change.ino)->needed_record = record_;
    state_.tidy(change.ino);
  }

 private:
  DeltaEntries& directory(Ino dir) { return state_.directories_[to_number(dir)]; }
  void note_data(Ino ino, Item& one) {
    effects_.names_data = true;
    if (std::exchange(one.to_flush, true)) return;
    effects_.to_flush.push_back(ino);
  }
  DeltaState& state_;
  DataEffects& effects_;
  const std::uint64_t record_;
};

void DeltaState::apply(const tree::Change& change, DataEffects& effects, std::uint64_t record) {
  std::visit(Applier(*this, effects, record), change);
}

std::uint64_t DeltaState::needed_record(Ino ino) const {
  const Item* found = item(ino);
  return found == nullptr ? 0 : found->needed_record;
}

void DeltaState::clear_to_flush(Ino ino) {
  if (Item* found = item(ino)) found->to_flush = false;
}

bool DeltaState::mark_to_flush(Ino ino) {
  Item* found = item(ino);
  return found != nullptr && !std::exchange(found->to_flush, true);
}

void DeltaState::raise_next_ino(std::uint64_t limit) { next_ino_ = std::max(next_ino_, limit); }

void DeltaState::load_extents(Ino ino, const std::vector<tree::Extent>& extents) {
  make_extra(ino).extents.assign(extents);
  tidy(ino);
}

void DeltaState::drop_node(Ino ino) {
  Item* found = item(ino);
  if (found == nullptr) return;
  auto kept = std::move(found->extra);
  *found = Item{};
  if (kept) {
    kept->object = {};
    kept->base_size = 0;
    kept->rdev = 0;
  }
  found->extra = std::move(kept);
  tidy(ino);
}

void DeltaState::drop_inline(Ino ino) {
  if (Extra* found = extra(ino)) {
    found->inline_bytes.reset();
    tidy(ino);
  }
}

void DeltaState::drop_xattrs(Ino ino) {
  if (Extra* found = extra(ino)) {
    found->xattrs.clear();
    tidy(ino);
  }
}

std::vector<Ino> DeltaState::sharers() const {
  std::vector<Ino> found;
  for (const auto& [ino, one] : inodes_)
    if (one.has_node && one.content == tree::ContentKind::kShared) found.push_back(Ino{ino});
  return found;
}

Result<void> DeltaState::for_each_length(
    FunctionRef<Result<void>(const DataName& name, std::uint64_t length)> visit) const {
  for (const auto& [ino, one] : inodes_) {
    if (!one.has_node || one.kind != NodeKind::kRegular || !one.data_reaches || !has_data_file(one.content))
      continue;
    std::uint64_t length = one.size;
    if (one.extra && !one.extra->object.is_zero()) {
      const auto extents = one.extra->extents.list();
      length = extents.empty() ? 0 : extents.back().offset + extents.back().length;
    }
    LAYERFS_TRY(visit({Ino{ino}, one.content}, length));
  }
  return {};
}

std::vector<DataName> DeltaState::data_names(std::span<const Ino> inos) const {
  std::vector<DataName> names;
  names.reserve(inos.size());
  for (const Ino ino : inos) {
    const Item* one = item(ino);
    if (one != nullptr && one->has_node && has_data_file(one->content)) names.push_back({ino, one->content});
  }
  return names;
}

std::vector<Ino> DeltaState::inodes() const {
  std::vector<Ino> found;
  found.reserve(inodes_.size());
  for (const auto& [ino, one] : inodes_) found.push_back(Ino{ino});
  return found;
}

std::vector<Ino> DeltaState::directories() const {
  std::vector<Ino> found;
  found.reserve(directories_.size());
  for (const auto& [ino, entries] : directories_) found.push_back(Ino{ino});
  return found;
}

}  // namespace layerfs::upper
