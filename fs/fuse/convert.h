// SPDX-License-Identifier: Apache-2.0
// Values of the core to values of FUSE and back: attributes, ids as IdView shows them, times. Pure.
#pragma once

#include <sys/stat.h>

#include <cstdint>

#include "fs/fuse/fuse_server.h"
#include "fs/union/union_fs.h"

namespace layerfs::fuse {

/// An id of the tree as requests see it.
std::uint32_t shown_uid(const IdView& view, unionfs::Uid uid);
std::uint32_t shown_gid(const IdView& view, unionfs::Gid gid);
/// An id of a request as the tree stores it.
unionfs::Uid stored_uid(const IdView& view, std::uint32_t uid);
unionfs::Gid stored_gid(const IdView& view, std::uint32_t gid);

/// Attributes as stat(2) gives them; `blocks`: UnionFs::blocks().
struct stat to_stat(const IdView& view, unionfs::Ino ino, const unionfs::Node& node, std::uint64_t blocks);

/// `valid`: FATTR_* of linux/fuse.h, for the fields of `attributes` that are to be set.
unionfs::SetAttr to_set_attr(const IdView& view, const struct stat& attributes, std::uint32_t valid);

/// A POSIX ACL (the bytes of system.posix_acl_*) with the ids of its named entries mapped. Bytes that are
/// no ACL come back unchanged: the core judges them.
std::string shown_acl(const IdView& view, std::string_view acl);
std::string stored_acl(const IdView& view, std::string_view acl);

}  // namespace layerfs::fuse
