// SPDX-License-Identifier: Apache-2.0
// Users and groups out of the texts of /etc/passwd and /etc/group (passwd(5), group(5)). Pure: the texts come
// out of an image and may be anything. This is the one reader of them.
//
// (1) What is all digits is an id and never a name: an image with a user called "1000" of uid 0 makes nobody
//     root (CVE-2016-3697). So does a line whose numbers cannot be read: it is skipped.
// (2) Lines are read as leniently as getpwent(3) and other runtimes do: comments and blank lines are skipped,
//     blanks and carriage returns around a line go, a line may end before its last field, and the first line
//     that fits counts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/result.h"

namespace layerfs::plan {

/// "No id" to the kernel, which leaves the id as it is (setresuid(2)).
inline constexpr std::uint32_t kNoId = ~std::uint32_t{0};
/// A decimal number that can be an id; nullopt for anything else.
std::optional<std::uint32_t> find_id(std::string_view text);

struct FoundUser {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::vector<std::uint32_t> groups;  ///< supplementary: the primary one first, then memberships, each once
  std::string home = "/";
  bool operator==(const FoundUser&) const = default;
};

/// `user`: empty, NAME, UID, NAME:GROUP, UID:GID... (image-spec, config.md, "User"). A number needs no entry;
/// with one, its group, home and memberships count. A named group replaces the memberships. Errors: kInvalid
/// where a name is in neither file, or a number is no id.
Result<FoundUser> find_user(std::string_view user, std::string_view passwd, std::string_view group);

}  // namespace layerfs::plan
