// SPDX-License-Identifier: Apache-2.0
#include "fs/union/acl.h"

#include <sys/stat.h>

#include <algorithm>

#include "fs/base/bytes.h"

namespace layerfs::unionfs {

namespace {

constexpr std::uint32_t kVersion = 2;
constexpr std::uint32_t kNoId = UINT32_MAX;

AclEntry* find_tag(Acl& acl, AclTag tag) {
  auto found =
      std::find_if(acl.begin(), acl.end(), [tag](const AclEntry& entry) { return entry.tag == tag; });
  return found == acl.end() ? nullptr : &*found;
}
const AclEntry* find_tag(const Acl& acl, AclTag tag) { return find_tag(const_cast<Acl&>(acl), tag); }

// The entry that the group bits of the mode stand for.
AclEntry* group_class(Acl& acl) {
  AclEntry* mask = find_tag(acl, AclTag::kMask);
  return mask ? mask : find_tag(acl, AclTag::kGroupObj);
}

bool is_named(AclTag tag) { return tag == AclTag::kUser || tag == AclTag::kGroup; }

bool is_valid(const Acl& acl) {
  // In this order, the unnamed once each, and a mask wherever somebody is named.
  int last = 0;
  bool named = false;
  for (const AclEntry& entry : acl) {
    int tag = static_cast<int>(entry.tag);
    if (tag < last || (tag == last && !is_named(entry.tag))) return false;
    if (entry.permissions > 7) return false;
    if (is_named(entry.tag) && entry.id == kNoId) return false;
    named = named || is_named(entry.tag);
    last = tag;
  }
  return find_tag(acl, AclTag::kUserObj) && find_tag(acl, AclTag::kGroupObj) &&
         find_tag(acl, AclTag::kOther) && (!named || find_tag(acl, AclTag::kMask));
}

}  // namespace

Result<Acl> parse_acl(std::string_view bytes) {
  ByteReader reader(bytes);
  auto version = reader.le<std::uint32_t>();
  if (!reader.ok()) return errno_error(EINVAL);
  if (version != kVersion) return errno_error(EOPNOTSUPP);
  Acl acl;
  while (!reader.rest().empty()) {
    auto tag = reader.le<std::uint16_t>();
    auto permissions = reader.le<std::uint16_t>();
    auto id = reader.le<std::uint32_t>();
    if (!reader.ok()) return errno_error(EINVAL);
    switch (tag) {
      case 0x01:
      case 0x02:
      case 0x04:
      case 0x08:
      case 0x10:
      case 0x20: break;
      default: return errno_error(EINVAL);
    }
    acl.push_back({static_cast<AclTag>(tag), permissions, is_named(static_cast<AclTag>(tag)) ? id : kNoId});
  }
  if (!is_valid(acl)) return errno_error(EINVAL);
  return acl;
}

std::string to_bytes(const Acl& acl) {
  std::string bytes;
  append_le(bytes, kVersion);
  for (const AclEntry& entry : acl) {
    append_le(bytes, static_cast<std::uint16_t>(entry.tag));
    append_le(bytes, entry.permissions);
    append_le(bytes, entry.id);
  }
  return bytes;
}

mode_t to_mode(const Acl& acl) {
  const AclEntry* group = group_class(const_cast<Acl&>(acl));
  return static_cast<mode_t>(find_tag(acl, AclTag::kUserObj)->permissions << 6 | group->permissions << 3 |
                             find_tag(acl, AclTag::kOther)->permissions);
}

bool is_mode_only(const Acl& acl) {
  return std::none_of(acl.begin(), acl.end(), [](const AclEntry& entry) {
    return is_named(entry.tag) || entry.tag == AclTag::kMask;
  });
}

void set_mode(Acl& acl, mode_t mode) {
  find_tag(acl, AclTag::kUserObj)->permissions = static_cast<std::uint16_t>(mode >> 6 & 7);
  group_class(acl)->permissions = static_cast<std::uint16_t>(mode >> 3 & 7);
  find_tag(acl, AclTag::kOther)->permissions = static_cast<std::uint16_t>(mode & 7);
}

std::optional<Acl> inherit_acl(const Acl& inherited, mode_t& mode) {
  // acl(5), "Object creation and default ACLs": each class gets what both the mode and the ACL allow.
  Acl acl = inherited;
  set_mode(acl, mode & to_mode(inherited));
  mode = (mode & ~mode_t{0777}) | to_mode(acl);
  if (is_mode_only(acl)) return std::nullopt;
  return acl;
}

}  // namespace layerfs::unionfs
