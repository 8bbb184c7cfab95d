// SPDX-License-Identifier: Apache-2.0
// Extended attributes. Which names a caller may use (trusted.*, user.* on special files ...) is the kernel's
// check; ACLs are xattrs that mode bits follow.
#include <sys/stat.h>

#include <numeric>

#include "fs/union/acl.h"
#include "fs/union/union.h"

namespace layerfs::unionfs {

namespace {

// xattr(7), linux/limits.h.
constexpr std::size_t kMaxXattrName = 255;
constexpr std::size_t kMaxXattrValue = 64 * 1024;
constexpr std::size_t kMaxXattrList = 64 * 1024;

std::size_t list_size(const std::vector<std::string>& names) {
  return std::accumulate(names.begin(), names.end(), std::size_t{0},
                         [](std::size_t sum, const std::string& name) { return sum + name.size() + 1; });
}

}  // namespace

Result<std::string> Union::getxattr(Ino ino, std::string_view name) {
  LAYERFS_ASSIGN(auto value, view_.find_xattr(ino, name));
  if (!value) return errno_error(ENODATA);
  return std::move(*value);
}

Result<std::string> Union::listxattr(Ino ino) {
  LAYERFS_ASSIGN(auto names, view_.xattr_names(ino));
  std::string list;
  list.reserve(list_size(names));
  for (const std::string& name : names) list.append(name).push_back('\0');
  return list;
}

// The ACL's owner, mask and others become the mode bits; one that says no more than they do is not kept.
Result<void> Union::set_access_acl(tree::ChangeSet& set, Ino ino, Node& node, std::string_view value) const {
  LAYERFS_ASSIGN(Acl acl, parse_acl(value));
  node.mode = static_cast<std::uint16_t>((node.mode & ~0777) | to_mode(acl));
  if (is_mode_only(acl)) return remove_xattr(set, ino, kAclAccess);
  set.changes.emplace_back(tree::PutXattr{ino, std::string(kAclAccess), to_bytes(acl)});
  return {};
}

Result<void> Union::setxattr(Ino ino, std::string_view name, std::string_view value, SetXattrMode mode,
                             const Caller& caller) {
  if (name.empty() || name.size() > kMaxXattrName) return errno_error(ERANGE);
  if (value.size() > kMaxXattrValue) return errno_error(E2BIG);
  LAYERFS_ASSIGN(const auto pass, gate_.pass(caller.when_frozen));
  LAYERFS_TRY(check_writable());
  ExclusiveLocks locks(locks_, ino);
  if (was_done(caller)) return {};
  LAYERFS_ASSIGN(Node node, view_.get_node(ino));
  LAYERFS_ASSIGN(auto names, view_.xattr_names(ino));
  bool is_there = std::find(names.begin(), names.end(), name) != names.end();
  if (mode == SetXattrMode::kCreate && is_there) return errno_error(EEXIST);
  if (mode == SetXattrMode::kReplace && !is_there) return errno_error(ENODATA);
  // More names than listxattr(2) can return would never be seen again.
  if (!is_there && list_size(names) + name.size() + 1 > kMaxXattrList) return errno_error(ENOSPC);

  tree::ChangeSet set = metadata_change_of(caller);
  if (name == kAclAccess) {
    if (node.kind == NodeKind::kSymlink) return errno_error(EOPNOTSUPP);
    LAYERFS_TRY(set_access_acl(set, ino, node, value));
  } else if (name == kAclDefault) {
    if (node.kind != NodeKind::kDirectory) return errno_error(EACCES);
    LAYERFS_TRY(parse_acl(value));
    set.changes.emplace_back(tree::PutXattr{ino, std::string(name), std::string(value)});
  } else {
    set.changes.emplace_back(tree::PutXattr{ino, std::string(name), std::string(value)});
  }
  node.ctime = now({node.ctime});
  LAYERFS_TRY(put_node(set, ino, node));
  return apply(set);
}

Result<void> Union::removexattr(Ino ino, std::string_view name, const Caller& caller) {
  LAYERFS_ASSIGN(const auto pass, gate_.pass(caller.when_frozen));
  LAYERFS_TRY(check_writable());
  ExclusiveLocks locks(locks_, ino);
  if (was_done(caller)) return {};
  LAYERFS_ASSIGN(Node node, view_.get_node(ino));
  LAYERFS_ASSIGN(auto value, view_.find_xattr(ino, name));
  if (!value) return errno_error(ENODATA);
  tree::ChangeSet set = metadata_change_of(caller);
  LAYERFS_TRY(remove_xattr(set, ino, name));
  node.ctime = now({node.ctime});
  LAYERFS_TRY(put_node(set, ino, node));
  return apply(set);
}

}  // namespace layerfs::unionfs
