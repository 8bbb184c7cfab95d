// SPDX-License-Identifier: Apache-2.0
// PackFile: a pack while it is written (FORMAT.md, "Packs"): a head, then contents one after another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "fs/base/fd.h"
#include "fs/base/own_files.h"
#include "fs/base/result.h"

namespace layerfs::store {

inline constexpr std::uint64_t kPackHeadSize = 16;
/// A writer starts another pack beyond this size, so that gc can rewrite one without copying very much.
inline constexpr std::uint64_t kPackSize = std::uint64_t{256} << 20;

/// Errors: kCorrupt where the file does not begin as a pack does; kUnsupported (a newer version).
Result<void> check_pack_head(int fd, const std::string& path);

class PackFile {
 public:
  /// Creates the file at `path`, a temporary, in the store's directory.
  static Result<PackFile> create(const OwnDirectory& store, std::string path);
  /// Appends; returns where the bytes are. They reach the file with a later append, or flush().
  Result<std::uint64_t> append(std::span<const std::byte> data);
  Result<void> flush();
  /// flush(), and writing to the disk starts.
  Result<void> push();
  /// Waits until everything flushed is on disk.
  Result<void> sync();
  std::uint64_t size() const { return written_ + buffer_.size(); }
  std::uint64_t id() const { return id_; }
  const std::string& path() const { return path_; }

 private:
  PackFile(std::string path, Fd fd);

  std::string path_;
  Fd fd_;
  std::uint64_t id_;
  std::string buffer_;
  std::uint64_t written_ = 0;
  std::uint64_t pushed_ = 0;  // up to here writing to the disk was started
};

/// Asks the kernel to start writing [from, to) of a file to the disk, so that a later fsync finds little to
/// do; nothing where that is empty.
void start_writeback(int fd, std::uint64_t from, std::uint64_t to);

}  // namespace layerfs::store
