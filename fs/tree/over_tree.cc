// SPDX-License-Identifier: Apache-2.0
#include "fs/tree/over_tree.h"

#include <algorithm>
#include <map>
#include <tuple>

namespace layerfs::tree {

namespace {

// The upper's entries of one directory, pulled a batch at a time.
class UpperEntries {
 public:
  struct Item {
    DirCookie cookie;
    std::string name;
    EntryState state;
    Ino ino;
  };

  UpperEntries(const UpperView* upper, Ino dir, DirCookie after) : upper_(upper), dir_(dir), last_(after) {
    if (upper_ != nullptr) fill();
  }
  /// The next entry or tombstone; null at the end.
  const Item* peek() const { return next_ < batch_.size() ? &batch_[next_] : nullptr; }
  void pop() {
    if (++next_ == batch_.size() && more_) fill();
  }

 private:
  static constexpr std::size_t kBatch = 64;

  void fill() {
    batch_.clear();
    next_ = 0;
    more_ = false;
    upper_->list_entries(dir_, last_, [&](const UpperEntryView& entry) {
      // Names of one cookie stay in one batch: the next begins after a cookie.
      if (batch_.size() >= kBatch && entry.cookie != batch_.back().cookie) {
        more_ = true;
        return false;
      }
      batch_.push_back({entry.cookie, std::string(entry.name), entry.state, entry.ino});
      return true;
    });
    if (!batch_.empty()) last_ = batch_.back().cookie;
  }

  const UpperView* upper_;
  Ino dir_;
  DirCookie last_;
  std::vector<Item> batch_;
  std::size_t next_ = 0;
  bool more_ = false;
};

}  // namespace

Result<std::optional<Node>> OverTree::find_node(Ino ino) const {
  if (above_ != nullptr) {
    if (auto node = above_->find_node(ino)) return node;
  }
  if (!may_be_below(ino)) return std::nullopt;
  return below_.find_node(ino);
}

Result<Node> OverTree::get_node(Ino ino) const {
  LAYERFS_ASSIGN(auto node, find_node(ino));
  if (!node) return errno_error(ENOENT);
  return *node;
}

Result<std::optional<Entry>> OverTree::find_entry(Ino dir, std::string_view name) const {
  UpperEntry over;
  if (above_ != nullptr) over = above_->find_entry(dir, name);
  if (over.state == EntryState::kTombstone) return std::nullopt;
  if (over.state == EntryState::kPresent) {
    LAYERFS_ASSIGN(auto node, find_node(over.ino));
    if (!node) return corrupt_error("look up", name, "its inode is missing");
    return Entry{over.ino, *node};
  }
  if (!may_be_below(dir)) return std::nullopt;
  LAYERFS_ASSIGN(auto entry, below_.find_entry(dir, name));
  if (entry && above_ != nullptr) {
    if (auto node = above_->find_node(entry->ino)) entry->node = *node;
  }
  return entry;
}

Result<std::optional<Ino>> OverTree::find_entry_below(Ino dir, std::string_view name) const {
  if (!may_be_below(dir)) return std::nullopt;
  LAYERFS_ASSIGN(auto entry, below_.find_entry(dir, name));
  return entry ? std::optional(entry->ino) : std::nullopt;
}

Result<void> OverTree::list_entries(Ino dir, DirCookie after,
                                    FunctionRef<bool(const EntryView&)> visit) const {
  UpperEntries over(above_, dir, after);
  Result<void> failure;
  // False where the listing ends: the visitor has had enough, or an error.
  auto show_upper = [&](const UpperEntries::Item& item) {
    if (item.state == EntryState::kTombstone) return true;
    auto node = get_node(item.ino);
    if (!node) {
      failure = node.error().code == ENOENT ? corrupt_error("list", item.name, "its inode is missing")
                                            : std::unexpected(node.error());
      return false;
    }
    return visit(EntryView{item.cookie, item.name, item.ino, *node});
  };

  bool go_on = true;
  if (may_be_below(dir)) {
    LAYERFS_TRY(below_.list_entries(dir, after, [&](const EntryView& entry) {
      auto here = std::tuple(entry.cookie, entry.name);
      while (const auto* item = over.peek()) {
        auto there = std::tuple(item->cookie, std::string_view(item->name));
        if (here < there) break;
        bool hidden = here == there;
        go_on = show_upper(*item);
        over.pop();
        if (!go_on || hidden) return go_on;
      }
      std::optional<Node> node;
      if (above_ != nullptr) node = above_->find_node(entry.ino);
      go_on = visit(EntryView{entry.cookie, entry.name, entry.ino, node ? *node : entry.node});
      return go_on;
    }));
  }
  for (; go_on && over.peek(); over.pop()) go_on = show_upper(*over.peek());
  return failure;
}

Result<bool> OverTree::is_empty(Ino dir) const {
  bool empty = true;
  LAYERFS_TRY(list_entries(dir, kDirStart, [&](const EntryView&) {
    empty = false;
    return false;
  }));
  return empty;
}

Result<std::optional<std::string>> OverTree::find_xattr(Ino ino, std::string_view name) const {
  if (above_ != nullptr) {
    std::string value;
    switch (above_->find_xattr(ino, name, value)) {
      case XattrState::kPresent: return value;
      case XattrState::kTombstone: return std::nullopt;
      case XattrState::kAbsent: break;
    }
  }
  if (!may_be_below(ino)) return std::nullopt;
  return below_.find_xattr(ino, name);
}

Result<bool> OverTree::has_xattr_below(Ino ino, std::string_view name) const {
  if (!may_be_below(ino)) return false;
  LAYERFS_ASSIGN(auto value, below_.find_xattr(ino, name));
  return value.has_value();
}

Result<std::vector<std::string>> OverTree::xattr_names(Ino ino) const {
  std::map<std::string, bool> shown;
  if (may_be_below(ino)) {
    LAYERFS_TRY(below_.list_xattrs(ino, [&](std::string_view name, std::string_view) {
      shown.emplace(name, true);
      return true;
    }));
  }
  if (above_ != nullptr) {
    above_->list_xattrs(ino, [&](std::string_view name, XattrState state, std::string_view) {
      shown[std::string(name)] = state == XattrState::kPresent;
      return true;
    });
  }
  std::vector<std::string> names;
  for (const auto& [name, is_there] : shown)
    if (is_there) names.push_back(name);
  return names;
}

Result<void> OverTree::list_xattrs(Ino ino, XattrVisitor visit) const {
  LAYERFS_ASSIGN(const std::vector<std::string> names, xattr_names(ino));
  for (const std::string& name : names) {
    LAYERFS_ASSIGN(const auto value, find_xattr(ino, name));
    if (value && !visit(name, *value)) break;
  }
  return {};
}

Result<std::string> OverTree::get_inline(Ino ino) const {
  if (above_ != nullptr) {
    auto bytes = above_->get_inline(ino);
    if (bytes || bytes.error().code != ENOENT) return bytes;
  }
  if (!may_be_below(ino)) return errno_error(ENOENT);
  return below_.get_inline(ino);
}

Ino OverTree::max_ino() const {
  Ino greatest = below_.max_ino();
  if (above_ != nullptr) {
    above_->for_each_changed([&](Ino ino, const ChangedParts& parts) {
      if (parts.node) greatest = std::max(greatest, ino);
      return true;
    });
  }
  return greatest;
}

}  // namespace layerfs::tree
