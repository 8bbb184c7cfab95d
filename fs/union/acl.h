// SPDX-License-Identifier: Apache-2.0
// POSIX access control lists as the xattrs system.posix_acl_access and system.posix_acl_default hold them
// (acl(5); the bytes are those of linux/posix_acl_xattr.h), and how they and the mode bits follow each other.
// Pure functions.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/result.h"

namespace layerfs::unionfs {

inline constexpr std::string_view kAclAccess = "system.posix_acl_access";
inline constexpr std::string_view kAclDefault = "system.posix_acl_default";

/// Values are those of the xattr.
enum class AclTag : std::uint16_t {
  kUserObj = 0x01,
  kUser = 0x02,
  kGroupObj = 0x04,
  kGroup = 0x08,
  kMask = 0x10,
  kOther = 0x20,
};

struct AclEntry {
  AclTag tag;
  std::uint16_t permissions;  // rwx
  std::uint32_t id;           // of kUser and kGroup
  bool operator==(const AclEntry&) const = default;
};
using Acl = std::vector<AclEntry>;

/// Errors: EINVAL where it is not a valid ACL (posix_acl_valid() of the kernel), EOPNOTSUPP for another
/// version.
Result<Acl> parse_acl(std::string_view bytes);
std::string to_bytes(const Acl& acl);

/// The permission bits that the ACL stands for: owner, mask (or owning group), others.
mode_t to_mode(const Acl& acl);
/// True where mode bits say all that the ACL says.
bool is_mode_only(const Acl& acl);
/// chmod(2): owner, mask (or owning group) and others take the bits of `mode`.
void set_mode(Acl& acl, mode_t mode);

/// What a new file gets in a directory with the default ACL `inherited`: `mode` as asked for becomes `mode`
/// masked by the ACL, and the access ACL is returned where mode bits can't say all of it.
std::optional<Acl> inherit_acl(const Acl& inherited, mode_t& mode);

}  // namespace layerfs::unionfs
