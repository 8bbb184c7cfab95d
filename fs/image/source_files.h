// SPDX-License-Identifier: Apache-2.0
// SourceFiles: the named files that an image source is made of, whether they lie in a directory or in an
// archive.
//
// (1) A name never leads outside: directories are opened below their root (openat2 RESOLVE_IN_ROOT), links of
//     an archive are resolved among its own members.
// (2) Any thread, after it was made.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "fs/base/result.h"
#include "fs/image/byte_source.h"
#include "fs/image/importer.h"

namespace layerfs::image {

class SourceFiles {
 public:
  virtual ~SourceFiles() = default;
  /// nullopt: no such file. Errors: kInvalid where it is no regular file; EIO, EACCES...
  virtual Result<std::optional<FileRange>> find(const std::string& path) const = 0;
};

Result<std::unique_ptr<SourceFiles>> open_directory_files(const std::string& path);

/// Reads the archive's headers once. A compressed archive, or one that is no file (a pipe), is first copied
/// plain into an unnamed file in `spool_dir`, its headers read on the way; limits.layer_bytes, .expansion and
/// .zstd_window hold for it as for a layer. Errors: those of TarReader; kInvalid where a limit is passed.
Result<std::unique_ptr<SourceFiles>> open_archive_files(const std::string& path, const std::string& spool_dir,
                                                        const ImportLimits& limits);

/// The file's text. Errors: ENOENT naming it; kInvalid above `limit`.
Result<std::string> get_text(const SourceFiles& files, const std::string& path, std::uint64_t limit);

}  // namespace layerfs::image
