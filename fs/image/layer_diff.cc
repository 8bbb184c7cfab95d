// SPDX-License-Identifier: Apache-2.0
#include "fs/image/layer_diff.h"

#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fs/base/log.h"
#include "fs/base/sys_file.h"
#include "fs/image/changed_paths.h"
#include "fs/image/file_content.h"
#include "fs/image/tar_writer.h"
#include "fs/image/tree_listing.h"
#include "fs/image/whiteout_name.h"
#include "fs/tree/over_tree.h"

namespace layerfs::image {

namespace {

/// What a walk over the changes gives, in the order of the layer.
class DiffVisitor {
 public:
  virtual ~DiffVisitor() = default;
  virtual Result<void> directory(const std::string& path, const Child& child) = 0;
  virtual Result<void> node(const std::string& path, const Child& child) = 0;
  virtual Result<void> whiteout(const std::string& path) = 0;
  virtual Result<void> socket(const std::string& path) = 0;
};

/// Walks what upper and tree show together and the tree alone side by side from the root, path by path.
class DiffWalk {
 public:
  DiffWalk(const tree::OverTree& view, const ChangedPaths& changes, DiffVisitor& visitor)
      : view_(view), changes_(changes), visitor_(visitor) {}

  Result<void> run() {
    LAYERFS_ASSIGN(auto root, view_.find_node(tree::kRootIno));
    if (!root) return corrupt_error("read", "tree", "it has no root");
    Child child{"", tree::kRootIno, *root};
    bool changed = changes_.changed(tree::kRootIno);
    if (changed) LAYERFS_TRY(visitor_.directory("", child));
    // The root's entry is never wanted for the sake of what is in it.
    LAYERFS_TRY(open("", child, tree::kRootIno, true));
    while (!stack_.empty()) {
      Frame& frame = stack_.back();
      if (frame.next == frame.children.size()) {
        stack_.pop_back();
        continue;
      }
      std::size_t at = frame.next++;
      // open() may move the frames: nothing of `frame` is used after it.
      Child next = std::move(frame.children[at].child);
      std::optional<Child> below = std::move(frame.children[at].below);
      std::string path = frame.path.empty() ? next.name : join_path(frame.path, next.name);
      LAYERFS_TRY(visit(std::move(path), std::move(next), below));
    }
    return {};
  }

 private:
  struct Pair {
    Child child;
    std::optional<Child> below;  // what the tree has at that path
  };
  struct Frame {
    std::string path;
    Child self;
    bool written;  // its own entry
    std::vector<Pair> children;
    std::size_t next = 0;
  };

  Result<void> visit(std::string path, Child child, const std::optional<Child>& below) {
    bool same = below && below->ino == child.ino;
    if (child.node.kind != tree::NodeKind::kDirectory) {
      if (same && !changes_.changed(child.ino)) return {};
      LAYERFS_TRY(write_parents());
      return visitor_.node(path, child);
    }
    bool changed = !same || changes_.changed(child.ino);
    if (!changed && !changes_.on_way(child.ino)) return {};
    if (changed) {
      LAYERFS_TRY(write_parents());
      LAYERFS_TRY(visitor_.directory(path, child));
    }
    bool below_is_dir = below && below->node.kind == tree::NodeKind::kDirectory;
    return open(std::move(path), std::move(child), below_is_dir ? std::optional(below->ino) : std::nullopt,
                changed);
  }

  /// Pairs the names of a directory with those at the same path in the tree; names that only the tree has are
  /// whiteouts, at once.
  Result<void> open(std::string path, Child self, std::optional<tree::Ino> below, bool written) {
    LAYERFS_ASSIGN(std::vector<Child> merged, sorted_children(view_, self.ino));
    std::vector<Child> lower;
    if (below) {
      LAYERFS_ASSIGN(lower, sorted_children(view_.below(), *below));
    }
    stack_.push_back({std::move(path), std::move(self), written, {}, 0});
    Frame& frame = stack_.back();
    frame.children.reserve(merged.size());
    std::vector<std::string> gone;
    auto old = lower.begin();
    for (auto& child : merged) {
      for (; old != lower.end() && old->name < child.name; ++old) gone.push_back(std::move(old->name));
      std::optional<Child> match;
      if (old != lower.end() && old->name == child.name) match = std::move(*old++);
      if (child.node.kind == tree::NodeKind::kSocket) {
        if (match) gone.push_back(child.name);
        LAYERFS_TRY(visitor_.socket(frame.path.empty() ? child.name : join_path(frame.path, child.name)));
        continue;
      }
      frame.children.push_back({std::move(child), std::move(match)});
    }
    for (; old != lower.end(); ++old) gone.push_back(std::move(old->name));
    if (gone.empty()) return {};
    LAYERFS_TRY(write_parents());
    for (const auto& name : gone)
      LAYERFS_TRY(visitor_.whiteout(frame.path.empty() ? name : join_path(frame.path, name)));
    return {};
  }

  Result<void> write_parents() {
    // Written ones are at the bottom of the stack, all of them together.
    std::size_t first = stack_.size();
    while (first > 0 && !stack_[first - 1].written) --first;
    for (; first < stack_.size(); ++first) {
      LAYERFS_TRY(visitor_.directory(stack_[first].path, stack_[first].self));
      stack_[first].written = true;
    }
    return {};
  }

  const tree::OverTree& view_;
  const ChangedPaths& changes_;
  DiffVisitor& visitor_;
  std::vector<Frame> stack_;
};

/// Finds inodes of the tree that have names besides those that the walk came by (layer_diff.h, 5).
class LinkCount final : public DiffVisitor {
 public:
  explicit LinkCount(const tree::OverTree& view) : view_(view) {}
  Result<void> directory(const std::string&, const Child&) override { return {}; }
  Result<void> node(const std::string&, const Child& child) override {
    if (child.node.nlink > 1) ++seen_.try_emplace(child.ino, Seen{child.node.nlink, 0}).first->second.names;
    return {};
  }
  Result<void> whiteout(const std::string&) override { return {}; }
  Result<void> socket(const std::string&) override { return {}; }

  Result<std::vector<tree::Ino>> incomplete() const {
    std::vector<tree::Ino> inos;
    for (const auto& [ino, seen] : seen_) {
      if (seen.names >= seen.links) continue;
      LAYERFS_ASSIGN(auto lower, view_.below().find_node(ino));
      if (lower) inos.push_back(ino);
    }
    return inos;
  }

 private:
  struct Seen {
    std::uint32_t links;
    std::uint32_t names;
  };
  const tree::OverTree& view_;
  std::unordered_map<tree::Ino, Seen> seen_;
};

class DiffWriter final : public DiffVisitor {
 public:
  DiffWriter(const tree::OverTree& view, const tree::BlobSource& blobs, const ByteSink& sink)
      : view_(view), blobs_(blobs), writer_(sink) {}

  Result<void> directory(const std::string& path, const Child& child) override { return add(path, child); }
  Result<void> node(const std::string& path, const Child& child) override { return add(path, child); }

  Result<void> whiteout(const std::string& path) override {
    ++counts_.entries;
    ++counts_.whiteouts;
    return writer_.add_whiteout(path);
  }

  Result<void> socket(const std::string& path) override {
    ++counts_.sockets;
    log_warning("leave out '{}': a tar cannot hold a socket", shown_name(path));
    return {};
  }

  Result<LayerDiffCounts> finish() {
    LAYERFS_TRY(writer_.finish());
    return counts_;
  }

 private:
  Result<void> add(const std::string& path, const Child& child) {
    if (is_whiteout_name(child.name))
      return invalid_error("put into a layer", shown_name(path),
                           "a name that begins with '.wh.' reads as a whiteout");
    if (path.size() > tree::kMaxPath)
      return invalid_error("put into a layer", shown_name(path), "the path is longer than 4095 bytes");
    ++counts_.entries;
    TarEntry entry;
    entry.path = path;
    entry.node = child.node;
    if (child.node.kind != tree::NodeKind::kDirectory && child.node.nlink > 1) {
      auto [first, is_new] = first_names_.try_emplace(child.ino, path);
      if (!is_new) {
        entry.hard_link = first->second;
        return writer_.add(entry);
      }
    }
    LAYERFS_ASSIGN(entry.xattrs, xattrs_of(view_, child.ino));
    if (child.node.kind == tree::NodeKind::kSymlink) {
      LAYERFS_ASSIGN(entry.symlink, view_.get_inline(child.ino));
    }
    if (child.node.kind != tree::NodeKind::kRegular) return writer_.add(entry);
    if (auto written = add_file(entry, child); !written)
      return with_context(std::move(written).error(), "put into a layer", shown_name(path));
    return {};
  }

  Result<void> add_file(TarEntry& entry, const Child& child) {
    LAYERFS_ASSIGN(FileContent content, FileContent::of_node(child.ino, child.node, view_, blobs_));
    LAYERFS_ASSIGN(entry.runs, content.find_runs());
    LAYERFS_TRY(writer_.add(entry));
    return content.write(entry.runs, [&](std::string_view bytes) { return writer_.write(bytes); });
  }

  const tree::OverTree& view_;
  const tree::BlobSource& blobs_;
  TarWriter writer_;
  std::unordered_map<tree::Ino, std::string> first_names_;
  LayerDiffCounts counts_;
};

}  // namespace

Result<LayerDiffCounts> write_layer_diff(const tree::TreeSource& lower, const tree::UpperView& upper,
                                         const tree::BlobSource& blobs, const ByteSink& sink) {
  const tree::OverTree view(lower, &upper);
  LAYERFS_ASSIGN(ChangedPaths changes, ChangedPaths::find(view));
  LinkCount count(view);
  LAYERFS_TRY(DiffWalk(view, changes, count).run());
  LAYERFS_ASSIGN(std::vector<tree::Ino> incomplete, count.incomplete());
  if (!incomplete.empty()) LAYERFS_TRY(changes.add_all_names(incomplete));
  DiffWriter writer(view, blobs, sink);
  LAYERFS_TRY(DiffWalk(view, changes, writer).run());
  return writer.finish();
}

}  // namespace layerfs::image
