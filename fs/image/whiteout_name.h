// SPDX-License-Identifier: Apache-2.0
// Names in a layer: the path of a tar entry made canonical, and the whiteout marks in it (OCI image-spec,
// layer.md, "Whiteouts"). Pure; any thread.
//
// (1) A LayerPath's path is what layer_record.h (1) asks for, or parsing failed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "fs/base/result.h"

namespace layerfs::image {

inline constexpr std::string_view kWhiteoutPrefix = ".wh.";
inline constexpr std::string_view kOpaqueName = ".wh..wh..opq";
/// Names that begin so belong to AUFS itself (`.wh..wh.plnk`, `.wh..wh.aufs`), but for the opaque mark.
inline constexpr std::string_view kAufsPrefix = ".wh..wh.";

enum class PathMeaning : std::uint8_t {
  kEntry,     ///< `path` is the entry
  kWhiteout,  ///< `path` of the lower layers is gone
  kOpaque,    ///< the lower children of `path` are gone
  kIgnored,   ///< AUFS's own bookkeeping: no entry of the file system
};

struct LayerPath {
  PathMeaning meaning = PathMeaning::kEntry;
  std::string path;
};

/// The name of a tar entry; a leading '/' means the root of the layer. Errors: kInvalid with the reason only:
/// empty, `..`, NUL, a component above 255 bytes, a path above 4095, a bare `.wh.`, a whiteout as a parent.
Result<LayerPath> parse_entry_path(std::string_view name);

/// The target of a hard link, likewise. Errors: as above.
Result<std::string> parse_link_path(std::string_view name);

/// True where `name` (one component) can't stand in a layer because it reads as a whiteout.
inline bool is_whiteout_name(std::string_view name) { return name.starts_with(kWhiteoutPrefix); }

/// A name from an archive as it may be printed: control and non-ASCII-printable bytes as \xNN, cut at 256.
std::string shown_name(std::string_view name);

}  // namespace layerfs::image
