// SPDX-License-Identifier: Apache-2.0
#include "fs/tree/merge.h"

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace layerfs::tree {

namespace {

constexpr int kMaxLinks = 40;  // MAXSYMLINKS of path_resolution(7)

std::string_view parent_path(std::string_view path) {
  auto slash = path.rfind('/');
  return slash == std::string_view::npos ? std::string_view{} : path.substr(0, slash);
}

std::string_view last_component(std::string_view path) {
  auto slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

// Puts the components of `path` on top of `stack`, the first one uppermost.
void push_components(std::vector<std::string>& stack, std::string_view path) {
  std::size_t end = path.size();
  while (end > 0) {
    auto slash = path.rfind('/', end - 1);
    std::size_t begin = slash == std::string_view::npos ? 0 : slash + 1;
    if (begin < end) stack.emplace_back(path.substr(begin, end - begin));
    if (begin == 0) break;
    end = begin - 1;
  }
}

// Where a walk ended: the last directory that exists, and the names that are missing below it.
struct WalkEnd {
  Ino dir = kRootIno;
  std::vector<std::string> missing;
};

// Whose symbolic links a walk follows (merge.h, invariants 2 and 6).
enum class Follow : std::uint8_t { kOwn, kAll };

// Steps through the targets of links that a layer has whatever its size, and more for each of its entries.
constexpr std::uint64_t kFreeLinkSteps = 4'000'000;
constexpr std::uint64_t kLinkStepsOfEntry = 64;

class Merger {
 public:
  Merger(MemoryTree& tree, const MergeLimits& limits)
      : tree_(tree), limits_(limits), first_own_(to_number(tree.max_ino()) + 1) {}

  Result<void> hide_lower(const LayerRecords& layer);
  Result<void> add(const LayerRecord& record);

 private:
  // Follows `path` to a directory. Something in the way that is neither directory nor followed: with kOwn it
  // is taken out of the tree where a lower layer has it (invariant 3).
  Result<WalkEnd> walk(std::string_view path, const std::string& entry, Follow follow);
  // Where `path` leads to a directory by directories only.
  Result<std::optional<Ino>> find_directory(std::string_view path) const;
  // The directory for `record`'s parent; what is missing is made (invariant 4).
  Result<Ino> make_parent(const LayerRecord& record);
  Result<void> add_hard_link(const LayerRecord& record, Ino dir, const std::string& name);
  Result<std::optional<Entry>> find_target(const LayerRecord& record);
  Result<void> check_size(const std::string& entry) const;
  // Whether this layer has the entry: its inode was born in it, or it is a new name of a lower layer's.
  bool is_own(Ino dir, const std::string& name, Ino ino) const {
    return to_number(ino) >= first_own_ ||
           (!own_links_.empty() && own_links_.contains({to_number(dir), name}));
  }
  void forget_directories() {
    // Not clear(): it costs what the table once held, each time.
    if (!known_.empty()) known_ = {};
  }

  MemoryTree& tree_;
  MergeLimits limits_;
  std::uint64_t first_own_;                                    // inodes from here on are this layer's
  std::set<std::pair<std::uint64_t, std::string>> own_links_;  // hard links to inodes of lower layers
  std::uint64_t entries_ = 0;
  std::uint64_t link_steps_ = 0;
  std::uint64_t made_parents_ = 0;
  // Directories by the path that this layer calls them: most entries' parents are its own. Forgotten whenever
  // a directory or a symbolic link, which a path may lead through, goes away.
  std::unordered_map<std::string, Ino> known_;
};

Result<WalkEnd> Merger::walk(std::string_view path, const std::string& entry, Follow follow) {
  std::vector<std::string> todo;
  push_components(todo, path);
  WalkEnd end;
  int links = 0;
  while (!todo.empty()) {
    std::string name = std::move(todo.back());
    todo.pop_back();
    if (name == ".") continue;
    if (name == "..") {
      if (!end.missing.empty()) {
        end.missing.pop_back();
      } else {
        LAYERFS_ASSIGN(auto here, tree_.find_node(end.dir));
        end.dir = here->parent;
      }
      continue;
    }
    if (!end.missing.empty()) {
      end.missing.push_back(std::move(name));
      continue;
    }
    LAYERFS_ASSIGN(auto found, tree_.find_entry(end.dir, name));
    if (!found) {
      end.missing.push_back(std::move(name));
    } else if (found->node.kind == NodeKind::kDirectory) {
      end.dir = found->ino;
    } else if (found->node.kind == NodeKind::kSymlink &&
               (follow == Follow::kAll || is_own(end.dir, name, found->ino))) {
      if (++links > kMaxLinks)
        return invalid_error("apply entry", entry, "too many levels of symbolic links");
      LAYERFS_ASSIGN(std::string target, tree_.get_inline(found->ino));
      if (target.starts_with('/')) end.dir = kRootIno;
      std::size_t before = todo.size();
      push_components(todo, target);
      link_steps_ += todo.size() - before;
      if (link_steps_ > kFreeLinkSteps + entries_ * kLinkStepsOfEntry)
        return invalid_error("apply entry", entry,
                             "the symbolic links in the way of the layer's entries take too many steps");
    } else if (follow == Follow::kAll || is_own(end.dir, name, found->ino)) {
      return invalid_error("apply entry", entry, "a parent of it is not a directory");
    } else {
      tree_.remove_entry(end.dir, name);
      end.missing.push_back(std::move(name));
    }
  }
  return end;
}

Result<std::optional<Ino>> Merger::find_directory(std::string_view path) const {
  Ino dir = kRootIno;
  while (!path.empty()) {
    std::size_t slash = std::min(path.find('/'), path.size());
    LAYERFS_ASSIGN(auto found, tree_.find_entry(dir, path.substr(0, slash)));
    if (!found || found->node.kind != NodeKind::kDirectory) return std::nullopt;
    dir = found->ino;
    path.remove_prefix(std::min(slash + 1, path.size()));
  }
  return dir;
}

// Invariant (1). Every mark is looked up before the first is carried out, so that their order is of no
// account.
Result<void> Merger::hide_lower(const LayerRecords& layer) {
  std::vector<Ino> opaque;
  std::vector<std::pair<Ino, std::string>> whiteouts;
  // Marks of one directory mostly follow each other.
  std::string last_path;
  std::optional<Ino> last_dir = kRootIno;
  LAYERFS_TRY(layer.for_each([&](const LayerRecord& record) -> Result<void> {
    bool is_opaque = record.kind == RecordKind::kOpaque;
    if (!is_opaque && record.kind != RecordKind::kWhiteout) return {};
    const std::string& path = record.path;
    if (!is_opaque && path.empty()) return invalid_error("apply entry", path, "a whiteout of the root");
    std::string_view dir_path = is_opaque ? std::string_view(path) : parent_path(path);
    if (dir_path != last_path) {
      LAYERFS_ASSIGN(last_dir, find_directory(dir_path));
      last_path = dir_path;
    }
    if (!last_dir) return {};
    if (is_opaque)
      opaque.push_back(*last_dir);
    else
      whiteouts.emplace_back(*last_dir, std::string(last_component(path)));
    return {};
  }));
  for (Ino dir : opaque) {
    LAYERFS_ASSIGN(auto node, tree_.find_node(dir));
    if (node) tree_.clear_directory(dir);
  }
  for (const auto& [dir, name] : whiteouts) {
    LAYERFS_ASSIGN(auto found, tree_.find_entry(dir, name));
    if (found) tree_.remove_entry(dir, name);
  }
  return {};
}

Result<void> Merger::check_size(const std::string& entry) const {
  if (tree_.node_count() <= limits_.nodes) return {};
  return invalid_error("apply entry", entry,
                       "more than " + std::to_string(limits_.nodes) +
                           " files and directories in the image (the limit can be raised)");
}

Result<Ino> Merger::make_parent(const LayerRecord& record) {
  std::string path(parent_path(record.path));
  if (auto known = known_.find(path); known != known_.end()) return known->second;
  LAYERFS_ASSIGN(WalkEnd end, walk(path, record.path, Follow::kOwn));
  Ino dir = end.dir;
  for (const std::string& name : end.missing) {
    if (name.size() > kMaxName)
      return invalid_error("apply entry", record.path, "a parent's name is too long");
    if (++made_parents_ > limits_.made_parents)
      return invalid_error("apply entry", record.path,
                           "more than " + std::to_string(limits_.made_parents) +
                               " directories that the layer only implies (the limit can be raised)");
    Node node;
    node.kind = NodeKind::kDirectory;
    node.mode = 0755;
    node.mtime = node.ctime = node.atime = record.node.mtime;
    dir = tree_.add_node(dir, name, node, {}, {});
    LAYERFS_TRY(check_size(record.path));
  }
  known_.emplace(std::move(path), dir);
  return dir;
}

Result<std::optional<Entry>> Merger::find_target(const LayerRecord& record) {
  LAYERFS_ASSIGN(WalkEnd end, walk(parent_path(record.target), record.path, Follow::kAll));
  if (!end.missing.empty()) return std::nullopt;
  return tree_.find_entry(end.dir, last_component(record.target));
}

Result<void> Merger::add_hard_link(const LayerRecord& record, Ino dir, const std::string& name) {
  std::string reason = "it is a hard link to '" + record.target + "', which ";
  LAYERFS_ASSIGN(auto target, find_target(record));
  if (!target) return invalid_error("apply entry", record.path, reason + "is not there");
  if (target->node.kind == NodeKind::kDirectory)
    return invalid_error("apply entry", record.path, reason + "is a directory");
  LAYERFS_ASSIGN(auto old, tree_.find_entry(dir, name));
  if (old && old->ino == target->ino) return {};
  if (old) {
    forget_directories();
    tree_.remove_entry(dir, name);
    LAYERFS_ASSIGN(auto still_there, tree_.find_node(target->ino));
    if (!still_there) return invalid_error("apply entry", record.path, reason + "it replaces");
  }
  tree_.add_link(dir, name, target->ino);
  if (to_number(target->ino) < first_own_) own_links_.emplace(to_number(dir), name);
  return {};
}

// What a record says, as a node of the tree.
Node to_node(const LayerRecord& record) {
  Node node = record.node;
  if (node.kind == NodeKind::kSymlink) {
    node.content = ContentKind::kInline;
    node.size = record.target.size();
  }
  // Tar keeps one time; a file whose ctime is 1970 would look older than its contents.
  if (node.ctime == Time{}) node.ctime = node.mtime;
  if (node.atime == Time{}) node.atime = node.mtime;
  return node;
}

Result<void> Merger::add(const LayerRecord& record) {
  if (record.kind != RecordKind::kNode && record.kind != RecordKind::kHardLink) return {};
  bool is_directory = record.kind == RecordKind::kNode && record.node.kind == NodeKind::kDirectory;
  ++entries_;
  if (record.path.empty()) {
    if (!is_directory) return invalid_error("apply entry", "/", "the root can only be a directory");
    tree_.replace_node(kRootIno, to_node(record), {}, record.xattrs);
    return {};
  }
  LAYERFS_ASSIGN(Ino dir, make_parent(record));
  std::string name(last_component(record.path));
  if (record.kind == RecordKind::kHardLink) return add_hard_link(record, dir, name);

  LAYERFS_ASSIGN(auto old, tree_.find_entry(dir, name));
  if (old && is_directory && old->node.kind == NodeKind::kDirectory) {
    tree_.replace_node(old->ino, to_node(record), {}, record.xattrs);
    return {};
  }
  if (old) {
    if (old->node.kind == NodeKind::kDirectory || old->node.kind == NodeKind::kSymlink) forget_directories();
    tree_.remove_entry(dir, name);
  }
  std::string inline_bytes = record.node.kind == NodeKind::kSymlink ? record.target : std::string();
  Ino ino = tree_.add_node(dir, name, to_node(record), std::move(inline_bytes), record.xattrs);
  if (is_directory) known_.emplace(record.path, ino);
  return check_size(record.path);
}

}  // namespace

Result<void> merge_layer(MemoryTree& tree, const LayerRecords& layer, const MergeLimits& limits) {
  Merger merger(tree, limits);
  LAYERFS_TRY(merger.hide_lower(layer));
  return layer.for_each([&](const LayerRecord& record) { return merger.add(record); });
}

}  // namespace layerfs::tree
