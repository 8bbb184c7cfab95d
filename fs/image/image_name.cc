// SPDX-License-Identifier: Apache-2.0
#include "fs/image/image_name.h"

#include "fs/store/store.h"

namespace layerfs::image {

bool is_same_name(std::string_view left, std::string_view right) {
  auto normalised = [](std::string_view name) {
    // Docker's own images go by their short name and by the full one.
    for (std::string_view prefix : {"docker.io/library/", "docker.io/"}) {
      if (!name.starts_with(prefix)) continue;
      name.remove_prefix(prefix.size());
      break;
    }
    auto reference = store::normalise_reference(name);
    return reference ? *reference : std::string();
  };
  if (left == right) return true;
  std::string name = normalised(left);
  return !name.empty() && name == normalised(right);
}

std::string repository_name(const std::string& path) {
  std::string_view rest = path;
  while (rest.ends_with('/')) rest.remove_suffix(1);
  if (std::size_t slash = rest.rfind('/'); slash != std::string_view::npos) rest.remove_prefix(slash + 1);
  for (bool again = true; again;) {
    again = false;
    for (std::string_view extension : {".gz", ".tgz", ".zst", ".tar", ".oci"}) {
      if (!rest.ends_with(extension)) continue;
      rest.remove_suffix(extension.size());
      again = true;
    }
  }
  // path-component of the reference grammar: lower-case words joined by single separators.
  std::string name;
  for (char byte : rest) {
    bool upper = byte >= 'A' && byte <= 'Z';
    bool word = upper || (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9');
    if (word) {
      name += upper ? static_cast<char>(byte - 'A' + 'a') : byte;
    } else if (!name.empty() && name.back() != '-' && name.back() != '.' && name.back() != '_') {
      name += byte == '.' || byte == '_' ? byte : '-';
    }
  }
  while (!name.empty() && (name.back() == '-' || name.back() == '.' || name.back() == '_')) name.pop_back();
  return name;
}

}  // namespace layerfs::image
