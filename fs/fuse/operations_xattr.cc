// SPDX-License-Identifier: Apache-2.0
#include <linux/fuse.h>
#include <linux/xattr.h>
#include <sys/stat.h>

#include "fs/fuse/adapter.h"
#include "fs/fuse/convert.h"
#include "fs/fuse/operations.h"

namespace layerfs::fuse {
namespace {

using unionfs::Ino;

constexpr std::string_view kAclAccess = XATTR_NAME_POSIX_ACL_ACCESS;
constexpr std::string_view kAclDefault = XATTR_NAME_POSIX_ACL_DEFAULT;

constexpr std::string_view kNamespaces[] = {XATTR_USER_PREFIX, XATTR_TRUSTED_PREFIX, XATTR_SECURITY_PREFIX};

bool is_acl(std::string_view name) { return name == kAclAccess || name == kAclDefault; }

/// What the kernel checks by a file system's table of handlers and FUSE's lets through: the namespace is
/// known, and a name follows it.
Result<void> check_name(std::string_view name) {
  if (is_acl(name)) return {};
  for (std::string_view prefix : kNamespaces)
    if (name.starts_with(prefix)) return name.size() > prefix.size() ? Result<void>() : errno_error(EINVAL);
  return errno_error(EOPNOTSUPP);
}

void getxattr(fuse_req_t req, fuse_ino_t ino, const char* name, std::size_t size) {
  answer(req, "getxattr", [&](Adapter& adapter) {
    if (auto known = check_name(name); !known) return reply_failure(req, "getxattr", known.error());
    auto value = adapter.fs.getxattr(Ino{ino}, name);
    if (value && is_acl(name)) value = shown_acl(adapter.options.ids, *value);
    reply_value(req, "getxattr", size, value);
  });
}

/// The names, each with its NUL, without those of trusted.*.
std::string without_trusted(std::string_view names) {
  std::string shown;
  while (!names.empty()) {
    std::string_view name = names.substr(0, names.find('\0') + 1);
    if (!name.starts_with(XATTR_TRUSTED_PREFIX)) shown += name;
    names.remove_prefix(name.size());
  }
  return shown;
}

void listxattr(fuse_req_t req, fuse_ino_t ino, std::size_t size) {
  answer(req, "listxattr", [&](Adapter& adapter) {
    auto names = adapter.fs.listxattr(Ino{ino});
    // The kernel lets only CAP_SYS_ADMIN of the machine read and set them, but leaves the list to us
    // (xattr(7)).
    if (names && !is_from_root(req, adapter)) names = without_trusted(*names);
    reply_value(req, "listxattr", size, names);
  });
}

/// chmod g-s, as posix_acl_update_mode() does for a caller outside the file's group. The kernel expires the
/// attributes after it has set an ACL.
Result<void> clear_setgid(Adapter& adapter, Ino ino, const unionfs::Caller& caller) {
  LAYERFS_ASSIGN(auto node, adapter.fs.getattr(ino));
  if ((node.mode & S_ISGID) == 0) return {};
  unionfs::SetAttr changes;
  changes.mode = static_cast<std::uint16_t>(node.mode & ~S_ISGID);
  LAYERFS_TRY(adapter.fs.setattr(ino, changes, caller));
  return {};
}

// After a change of xattrs the kernel lets ctime, and mode where it was an ACL, expire as it does for changes
// of a directory's entries (attribute_readers.h). They are rare enough for a notification each.

void setxattr(fuse_req_t req, fuse_ino_t ino, const char* name, const char* value, std::size_t size,
              int flags) {
  answer_growing(req, "setxattr", size, [&](Adapter& adapter) {
    if (auto known = check_name(name); !known) return reply_failure(req, "setxattr", known.error());
    auto mode = (flags & XATTR_CREATE) != 0    ? unionfs::SetXattrMode::kCreate
                : (flags & XATTR_REPLACE) != 0 ? unionfs::SetXattrMode::kReplace
                                               : unionfs::SetXattrMode::kAny;
    auto caller = caller_of(req, adapter);
    std::string stored =
        is_acl(name) ? stored_acl(adapter.options.ids, {value, size}) : std::string(value, size);
    auto done = adapter.fs.setxattr(Ino{ino}, name, stored, mode, caller);
    if (done && name == kAclAccess &&
        (current_worker().details.setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID) != 0) {
      caller.when_frozen = unionfs::WhenFrozen::kWait;  // half of it is done
      done = clear_setgid(adapter, Ino{ino}, caller);
    }
    expire_attributes(adapter, Ino{ino});
    reply_done(req, "setxattr", done);
  });
}

void removexattr(fuse_req_t req, fuse_ino_t ino, const char* name) {
  answer(req, "removexattr", [&](Adapter& adapter) {
    if (auto known = check_name(name); !known) return reply_failure(req, "removexattr", known.error());
    auto done = adapter.fs.removexattr(Ino{ino}, name, caller_of(req, adapter));
    // Taking an ACL away that is not there succeeds (vfs_remove_acl()); so does setting an empty one, which
    // the kernel sends as this.
    if (!done && done.error().code == ENODATA && is_acl(name)) done = {};
    expire_attributes(adapter, Ino{ino});
    reply_done(req, "removexattr", done);
  });
}

}  // namespace

void add_xattr_operations(fuse_lowlevel_ops& operations) {
  operations.getxattr = getxattr;
  operations.listxattr = listxattr;
  operations.setxattr = setxattr;
  operations.removexattr = removexattr;
}

}  // namespace layerfs::fuse
