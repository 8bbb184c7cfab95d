// SPDX-License-Identifier: Apache-2.0
#include "fs/tree/merge.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
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
struct Place {
  Ino dir = kRootIno;
  std::vector<std::string> missing;
};

class Merger {
 public:
  explicit Merger(MemoryTree& tree) : tree_(tree) {}

  Result<void> hide_lower(const LayerSource& layer);
  Result<void> add(const LayerRecord& record);

 private:
  // Follows `path` to a directory (merge.h, invariant 2). Where `own` is given the walk is that of a whiteout
  // or opaque mark: nullopt where the path can't lead to anything that lay below this layer.
  Result<std::optional<Place>> walk(std::string_view path, const std::string& entry,
                                    const std::unordered_set<std::string>* own);
  // The directory for `record`'s parent; what is missing is made (invariant 3).
  Result<Ino> make_parent(const LayerRecord& record);
  Result<void> add_hard_link(const LayerRecord& record, Ino dir, const std::string& name);
  Result<std::optional<Entry>> find_target(const LayerRecord& record);

  MemoryTree& tree_;
  // Directories by the path that this layer calls them: most entries' parents are its own. Forgotten whenever
  // a directory or a symbolic link, which a path may lead through, goes away.
  std::unordered_map<std::string, Ino> known_;
};

Result<std::optional<Place>> Merger::walk(std::string_view path, const std::string& entry,
                                          const std::unordered_set<std::string>* own) {
  std::vector<std::string> todo;
  push_components(todo, path);
  Place place;
  std::string walked;  // the path as written, up to the first link
  bool as_written = own != nullptr;
  int links = 0;
  while (!todo.empty()) {
    std::string name = std::move(todo.back());
    todo.pop_back();
    if (name == ".") continue;
    if (name == "..") {
      if (!place.missing.empty()) {
        place.missing.pop_back();
      } else {
        LAYERFS_ASSIGN(auto here, tree_.find_node(place.dir));
        place.dir = here->parent;
      }
      continue;
    }
    if (as_written) walked.append(walked.empty() ? "" : "/").append(name);
    if (!place.missing.empty()) {
      place.missing.push_back(std::move(name));
      continue;
    }
    LAYERFS_ASSIGN(auto found, tree_.find_entry(place.dir, name));
    if (!found) {
      if (own) return std::nullopt;
      place.missing.push_back(std::move(name));
    } else if (found->node.kind == NodeKind::kDirectory) {
      place.dir = found->ino;
    } else if (found->node.kind == NodeKind::kSymlink) {
      // A link that this layer replaces by a directory leads nowhere below: nothing lay in that directory.
      if (as_written && own->contains(walked)) return std::nullopt;
      as_written = false;
      if (++links > kMaxLinks)
        return invalid_error("apply entry", entry, "too many levels of symbolic links");
      LAYERFS_ASSIGN(std::string target, tree_.get_inline(found->ino));
      if (target.starts_with('/')) place.dir = kRootIno;
      push_components(todo, target);
    } else {
      if (own) return std::nullopt;
      return invalid_error("apply entry", entry, "a parent of it is not a directory");
    }
  }
  return place;
}

// Invariant (1). Every mark is looked up before the first is carried out, so that their order is of no
// account.
Result<void> Merger::hide_lower(const LayerSource& layer) {
  std::vector<std::pair<RecordKind, std::string>> marks;
  std::unordered_set<std::string> own;
  LAYERFS_TRY(layer.for_each([&](const LayerRecord& record) -> Result<void> {
    if (record.kind == RecordKind::kWhiteout || record.kind == RecordKind::kOpaque)
      marks.emplace_back(record.kind, record.path);
    if (record.kind == RecordKind::kWhiteout ||
        (record.kind == RecordKind::kNode && record.node.kind == NodeKind::kDirectory))
      own.insert(record.path);
    return {};
  }));

  std::vector<Ino> opaque;
  std::vector<std::pair<Ino, std::string>> whiteouts;
  for (const auto& [kind, path] : marks) {
    bool is_opaque = kind == RecordKind::kOpaque;
    if (!is_opaque && path.empty()) return invalid_error("apply entry", path, "a whiteout of the root");
    LAYERFS_ASSIGN(auto place, walk(is_opaque ? std::string_view(path) : parent_path(path), path, &own));
    if (!place) continue;
    if (is_opaque)
      opaque.push_back(place->dir);
    else
      whiteouts.emplace_back(place->dir, std::string(last_component(path)));
  }
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

Result<Ino> Merger::make_parent(const LayerRecord& record) {
  std::string path(parent_path(record.path));
  if (auto known = known_.find(path); known != known_.end()) return known->second;
  LAYERFS_ASSIGN(auto place, walk(path, record.path, nullptr));
  Ino dir = place->dir;
  for (const std::string& name : place->missing) {
    if (name.size() > kMaxName)
      return invalid_error("apply entry", record.path, "a parent's name is too long");
    Node node;
    node.kind = NodeKind::kDirectory;
    node.mode = 0755;
    node.mtime = node.ctime = node.atime = record.node.mtime;
    dir = tree_.add_node(dir, name, node, {}, {});
  }
  known_.emplace(std::move(path), dir);
  return dir;
}

Result<std::optional<Entry>> Merger::find_target(const LayerRecord& record) {
  LAYERFS_ASSIGN(auto place, walk(parent_path(record.target), record.path, nullptr));
  if (!place->missing.empty()) return std::nullopt;
  return tree_.find_entry(place->dir, last_component(record.target));
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
    known_.clear();
    tree_.remove_entry(dir, name);
    LAYERFS_ASSIGN(auto still_there, tree_.find_node(target->ino));
    if (!still_there) return invalid_error("apply entry", record.path, reason + "it replaces");
  }
  tree_.add_link(dir, name, target->ino);
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
    if (old->node.kind == NodeKind::kDirectory || old->node.kind == NodeKind::kSymlink) known_.clear();
    tree_.remove_entry(dir, name);
  }
  std::string inline_bytes = record.node.kind == NodeKind::kSymlink ? record.target : std::string();
  Ino ino = tree_.add_node(dir, name, to_node(record), std::move(inline_bytes), record.xattrs);
  if (is_directory) known_.emplace(record.path, ino);
  return {};
}

}  // namespace

Result<void> merge_layer(MemoryTree& tree, const LayerSource& layer) {
  Merger merger(tree);
  LAYERFS_TRY(merger.hide_lower(layer));
  return layer.for_each([&](const LayerRecord& record) { return merger.add(record); });
}

}  // namespace layerfs::tree
