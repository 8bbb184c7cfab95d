// SPDX-License-Identifier: Apache-2.0
// Fuzz target: a user's name, /etc/passwd and /etc/group, each after a NUL byte. Who is given by a number is
// that number, and what is found has its primary group among its groups, each once.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "runtime/plan/user_lookup.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace layerfs::plan;
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  auto next = [&] {
    std::string_view part = rest.substr(0, rest.find('\0'));
    rest.remove_prefix(std::min(rest.size(), part.size() + 1));
    return part;
  };
  std::string_view user = next();
  std::string_view passwd = next();
  auto found = find_user(user, passwd, next());
  std::string_view name = user.substr(0, user.find(':'));
  bool digits = !name.empty() && name.find_first_not_of("0123456789") == std::string_view::npos;
  if (!found) {
    if (user.find(':') == std::string_view::npos && find_id(name)) std::abort();
    return 0;
  }
  if (digits && find_id(name) != found->uid) std::abort();
  if (found->uid == kNoId || found->groups.empty() || found->groups.front() != found->gid) std::abort();
  for (std::uint32_t gid : found->groups)
    if (gid == kNoId || std::ranges::count(found->groups, gid) != 1) std::abort();
  return 0;
}
