// SPDX-License-Identifier: Apache-2.0
// check_upper: what must hold of an upper once nobody uses anything in it: a file system check for tests.
#pragma once

#include <fmt/format.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "fs/tree/tree_source.h"
#include "fs/tree/upper_layer.h"
#include "fs/union/union_fs.h"

namespace layerfs::unionfs {

/// Walks the whole file system and returns what is wrong, empty where nothing is:
/// link counts are the number of names (2 + subdirectories), parents are right, each inode has one kind;
/// nothing of the upper is unreachable; no tombstone stands where the tree shows nothing.
inline std::string check_upper(UnionFs& fs, const tree::TreeSource& lower, const tree::UpperLayer& upper) {
  std::string wrong;
  auto complain = [&](std::string what) { wrong += what + "\n"; };
  std::map<std::uint64_t, std::uint32_t> links;
  std::map<std::uint64_t, Node> nodes;
  std::vector<Ino> todo{tree::kRootIno};
  links[1] = 2;
  nodes[1] = *fs.getattr(tree::kRootIno);
  while (!todo.empty()) {
    Ino dir = todo.back();
    todo.pop_back();
    auto done = fs.readdir(dir, tree::kDotDotCookie, [&](const EntryView& entry) {
      std::uint64_t ino = to_number(entry.ino);
      nodes[ino] = entry.node;
      if (entry.node.kind != NodeKind::kDirectory) {
        ++links[ino];
        return true;
      }
      if (links.contains(ino)) complain(fmt::format("directory {} has two names", ino));
      if (entry.node.parent != dir) complain(fmt::format("parent of directory {} is wrong", ino));
      links[ino] = 2;
      ++links[to_number(dir)];
      todo.push_back(entry.ino);
      return true;
    });
    if (!done) complain(fmt::format("list {}: {}", to_number(dir), done.error().message()));
  }
  for (const auto& [ino, node] : nodes) {
    if (links[ino] != node.nlink)
      complain(fmt::format("inode {}: nlink {}, names {}", ino, node.nlink, links[ino]));
    auto asked = fs.getattr(Ino{ino});
    if (!asked || *asked != node) complain(fmt::format("inode {}: listing and getattr differ", ino));
  }

  std::vector<std::pair<Ino, tree::ChangedParts>> changed;
  upper.for_each_changed([&](Ino ino, const tree::ChangedParts& parts) {
    changed.emplace_back(ino, parts);
    return true;
  });
  for (const auto& [ino, parts] : changed) {
    if (auto node = upper.find_node(ino)) {
      auto extents = upper.extents(ino);
      bool beyond = !extents.empty() && extents.back().offset + extents.back().length > node->size;
      // Without an object it is about holes, and space that was asked for beyond the end counts as one.
      if (beyond || (!node->object.is_zero() && node->base_size > node->size))
        complain(fmt::format("inode {}: bytes beyond its end", to_number(ino)));
      if (!extents.empty() && node->object.is_zero())
        complain(fmt::format("inode {}: extents over no base", to_number(ino)));
    }
    if (!nodes.contains(to_number(ino)))
      complain(fmt::format("inode {} of the upper is unreachable", to_number(ino)));
    if (!parts.entries) continue;
    std::vector<std::pair<std::string, tree::EntryState>> entries;
    upper.list_entries(ino, tree::kDirStart, [&](const tree::UpperEntryView& entry) {
      entries.emplace_back(entry.name, entry.state);
      return true;
    });
    for (const auto& [name, state] : entries)
      if (state == tree::EntryState::kTombstone && !lower.find_entry(ino, name).value())
        complain(fmt::format("tombstone of '{}' in {} hides nothing", name, to_number(ino)));
  }
  if (!upper.orphans().empty()) complain("there are orphans");
  return wrong;
}

}  // namespace layerfs::unionfs
