// SPDX-License-Identifier: Apache-2.0
// Users and groups out of the texts of /etc/passwd and /etc/group (passwd(5), group(5)). Pure: the texts come
// out of an image and may be anything.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/result.h"

namespace layerfs::plan {

struct FoundUser {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::vector<std::uint32_t> additional_gids;
  std::string home = "/";
  bool operator==(const FoundUser&) const = default;
};

/// `user`: empty, NAME, UID, NAME:GROUP, UID:GID... (image-spec, config.md, "User"). A number needs no entry;
/// with one, its group, home and memberships count. A named group replaces the memberships. Errors: kInvalid
/// where a name is in neither file.
Result<FoundUser> find_user(std::string_view user, std::string_view passwd, std::string_view group);

}  // namespace layerfs::plan
