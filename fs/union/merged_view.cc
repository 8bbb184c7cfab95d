// SPDX-License-Identifier: Apache-2.0
#include "fs/union/merged_view.h"

#include <map>
#include <tuple>

namespace layerfs::unionfs {

namespace {

using tree::EntryState;
using tree::XattrState;

// The upper's entries of one directory, pulled a batch at a time.
class UpperEntries {
 public:
  struct Item {
    DirCookie cookie;
    std::string name;
    EntryState state;
    Ino ino;
  };

  UpperEntries(const tree::UpperLayer* upper, Ino dir, DirCookie after)
      : upper_(upper), dir_(dir), last_(after) {
    if (upper_) fill();
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
    upper_->list_entries(dir_, last_, [&](const tree::UpperEntryView& entry) {
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

  const tree::UpperLayer* upper_;
  Ino dir_;
  DirCookie last_;
  std::vector<Item> batch_;
  std::size_t next_ = 0;
  bool more_ = false;
};

}  // namespace

Result<std::optional<Node>> MergedView::find_node(Ino ino) const {
  if (upper_) {
    if (auto node = upper_->find_node(ino)) return node;
  }
  if (!may_be_lower(ino)) return std::nullopt;
  return lower_.find_node(ino);
}

Result<Node> MergedView::get_node(Ino ino) const {
  LAYERFS_ASSIGN(auto node, find_node(ino));
  if (!node) return errno_error(ENOENT);
  return *node;
}

Result<std::optional<Entry>> MergedView::find_entry(Ino dir, std::string_view name) const {
  tree::UpperEntry over;
  if (upper_) over = upper_->find_entry(dir, name);
  if (over.state == EntryState::kTombstone) return std::nullopt;
  if (over.state == EntryState::kPresent) {
    LAYERFS_ASSIGN(auto node, find_node(over.ino));
    if (!node) return corrupt_error("look up", name, "its inode is missing");
    return Entry{over.ino, *node};
  }
  if (!may_be_lower(dir)) return std::nullopt;
  LAYERFS_ASSIGN(auto entry, lower_.find_entry(dir, name));
  if (entry && upper_) {
    if (auto node = upper_->find_node(entry->ino)) entry->node = *node;
  }
  return entry;
}

Result<std::optional<Ino>> MergedView::find_lower_entry(Ino dir, std::string_view name) const {
  if (!may_be_lower(dir)) return std::nullopt;
  LAYERFS_ASSIGN(auto entry, lower_.find_entry(dir, name));
  return entry ? std::optional(entry->ino) : std::nullopt;
}

Result<void> MergedView::list_entries(Ino dir, DirCookie after,
                                      FunctionRef<bool(const DirEntryView&)> visit) const {
  UpperEntries over(upper_, dir, after);
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
    return visit(DirEntryView{item.cookie, item.name, item.ino, *node});
  };

  bool go_on = true;
  if (may_be_lower(dir)) {
    LAYERFS_TRY(lower_.list_entries(dir, after, [&](const tree::EntryView& entry) {
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
      if (upper_) node = upper_->find_node(entry.ino);
      go_on = visit(DirEntryView{entry.cookie, entry.name, entry.ino, node ? *node : entry.node});
      return go_on;
    }));
  }
  for (; go_on && over.peek(); over.pop()) go_on = show_upper(*over.peek());
  return failure;
}

Result<bool> MergedView::is_empty(Ino dir) const {
  bool empty = true;
  LAYERFS_TRY(list_entries(dir, tree::kDirStart, [&](const DirEntryView&) {
    empty = false;
    return false;
  }));
  return empty;
}

Result<std::optional<std::string>> MergedView::find_xattr(Ino ino, std::string_view name) const {
  if (upper_) {
    std::string value;
    switch (upper_->find_xattr(ino, name, value)) {
      case XattrState::kPresent: return value;
      case XattrState::kTombstone: return std::nullopt;
      case XattrState::kAbsent: break;
    }
  }
  if (!may_be_lower(ino)) return std::nullopt;
  return lower_.find_xattr(ino, name);
}

Result<bool> MergedView::lower_has_xattr(Ino ino, std::string_view name) const {
  if (!may_be_lower(ino)) return false;
  LAYERFS_ASSIGN(auto value, lower_.find_xattr(ino, name));
  return value.has_value();
}

Result<std::vector<std::string>> MergedView::list_xattrs(Ino ino) const {
  std::map<std::string, bool> shown;
  if (may_be_lower(ino)) {
    LAYERFS_TRY(lower_.list_xattrs(ino, [&](std::string_view name, std::string_view) {
      shown.emplace(name, true);
      return true;
    }));
  }
  if (upper_) {
    upper_->list_xattrs(ino, [&](std::string_view name, XattrState state, std::string_view) {
      shown[std::string(name)] = state == XattrState::kPresent;
      return true;
    });
  }
  std::vector<std::string> names;
  for (const auto& [name, is_there] : shown)
    if (is_there) names.push_back(name);
  return names;
}

Result<std::string> MergedView::get_inline(Ino ino) const {
  if (upper_) {
    auto bytes = upper_->get_inline(ino);
    if (bytes || bytes.error().code != ENOENT) return bytes;
  }
  if (!may_be_lower(ino)) return errno_error(ENOENT);
  return lower_.get_inline(ino);
}

}  // namespace layerfs::unionfs
