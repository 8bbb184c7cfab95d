// SPDX-License-Identifier: Apache-2.0
#include "fs/image/whiteout_name.h"

#include <fmt/format.h>

#include "fs/base/refuse.h"
#include "fs/tree/node.h"

namespace layerfs::image {

namespace {

/// Drops empty and "." components; refuses what no tree can hold.
Result<std::string> canonical(std::string_view name) {
  if (name.find('\0') != std::string_view::npos) return refuse("a NUL in the name");
  std::string path;
  path.reserve(name.size());
  for (std::size_t at = 0; at < name.size();) {
    std::size_t slash = std::min(name.find('/', at), name.size());
    std::string_view component = name.substr(at, slash - at);
    at = slash + 1;
    if (component.empty() || component == ".") continue;
    if (component == "..") return refuse("'..' in the name");
    // A mark is no entry: the name in it is what must fit.
    std::size_t mark = component.starts_with(kWhiteoutPrefix) ? kWhiteoutPrefix.size() : 0;
    if (component.size() > tree::kMaxName + mark)
      return refuse(fmt::format("a component longer than {} bytes", tree::kMaxName));
    if (!path.empty()) path += '/';
    path += component;
  }
  bool is_mark = std::string_view(path).substr(path.rfind('/') + 1).starts_with(kWhiteoutPrefix);
  std::size_t mark = is_mark ? kWhiteoutPrefix.size() : 0;
  if (path.size() > tree::kMaxPath + mark)
    return refuse(fmt::format("a path longer than {} bytes", tree::kMaxPath));
  return path;
}

}  // namespace

Result<LayerPath> parse_entry_path(std::string_view name) {
  if (name.empty()) return refuse("an empty name");
  LayerPath result;
  LAYERFS_ASSIGN(result.path, canonical(name));
  if (result.path.find(kWhiteoutPrefix) == std::string::npos) return result;

  std::string_view path = result.path;
  for (std::size_t at = 0;;) {
    std::size_t slash = path.find('/', at);
    bool last = slash == std::string_view::npos;
    std::string_view component = path.substr(at, last ? path.size() - at : slash - at);
    if (component.starts_with(kWhiteoutPrefix)) {
      std::string parent(path.substr(0, at == 0 ? 0 : at - 1));
      if (last && component == kOpaqueName) return LayerPath{PathMeaning::kOpaque, std::move(parent)};
      if (component.starts_with(kAufsPrefix)) return LayerPath{PathMeaning::kIgnored, result.path};
      if (!last) return refuse("a whiteout as a parent directory");
      std::string_view target = component.substr(kWhiteoutPrefix.size());
      if (target.empty()) return refuse("a whiteout of no name");
      if (target == "." || target == "..") return refuse("a whiteout of '" + std::string(target) + "'");
      if (!parent.empty()) parent += '/';
      return LayerPath{PathMeaning::kWhiteout, parent + std::string(target)};
    }
    if (last) return result;
    at = slash + 1;
  }
}

Result<std::string> parse_link_path(std::string_view name) {
  if (name.empty()) return refuse("a hard link to an empty name");
  LAYERFS_ASSIGN(std::string path, canonical(name));
  if (path.empty()) return refuse("a hard link to the root directory");
  return path;
}

std::string shown_name(std::string_view name) {
  constexpr std::size_t kMost = 256;
  std::string text;
  for (unsigned char byte : name.substr(0, kMost)) {
    if (byte < 0x20 || byte >= 0x7f) {
      text += fmt::format("\\x{:02x}", byte);
    } else {
      text += static_cast<char>(byte);
    }
  }
  if (name.size() > kMost) text += "...";
  return text;
}

}  // namespace layerfs::image
