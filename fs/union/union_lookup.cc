// SPDX-License-Identifier: Apache-2.0
// lookup, getattr, readlink, readdir.
#include "fs/union/union.h"

namespace layerfs::unionfs {

Result<Entry> Union::answer_entry(Ino dir, std::string_view name) {
  LAYERFS_ASSIGN(auto entry, view_.find_entry(dir, name));
  if (!entry) return errno_error(ENOENT);
  counts_.add(entry->ino);
  return *entry;
}

Result<Entry> Union::lookup(Ino dir, std::string_view name) {
  LAYERFS_TRY(check_name(name));
  if (is_dot_or_dotdot(name)) {
    LAYERFS_ASSIGN(Node node, get_live_directory(dir));
    Ino ino = name == "." ? dir : node.parent;
    LAYERFS_ASSIGN(Node shown, view_.get_node(ino));
    counts_.add(ino);
    return Entry{ino, shown};
  }
  std::shared_lock hold(locks_.of(dir));
  auto entry = answer_entry(dir, name);
  if (entry || entry.error().code != ENOENT) return entry;
  LAYERFS_TRY(get_live_directory(dir));
  return entry;
}

Result<Node> Union::getattr(Ino ino) { return view_.get_node(ino); }

Result<std::string> Union::readlink(Ino ino) {
  LAYERFS_ASSIGN(Node node, view_.get_node(ino));
  if (node.kind != NodeKind::kSymlink) return errno_error(EINVAL);
  return view_.get_inline(ino);
}

Result<void> Union::readdir(Ino dir, DirCookie after, FunctionRef<bool(const DirEntryView&)> visit) {
  std::shared_lock hold(locks_.of(dir));
  LAYERFS_ASSIGN(Node node, get_live_directory(dir));
  if (after < tree::kDotCookie) {
    if (!visit(DirEntryView{tree::kDotCookie, ".", dir, node})) return {};
    after = tree::kDotCookie;
  }
  if (after < tree::kDotDotCookie) {
    LAYERFS_ASSIGN(Node parent, view_.get_node(node.parent));
    if (!visit(DirEntryView{tree::kDotDotCookie, "..", node.parent, parent})) return {};
    after = tree::kDotDotCookie;
  }
  return view_.list_entries(dir, after, visit);
}

}  // namespace layerfs::unionfs
