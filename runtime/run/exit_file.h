// SPDX-License-Identifier: Apache-2.0
// STORE/containers/ID/exit: how the last run of a container ended (RUN.md, "Files").
//
// (1) It is there, in its full length, before the program runs: a disk that is full by the end still takes
//     it.
// (2) Until the end is known it says what is true if nobody comes to write more: everything was killed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "fs/base/fd.h"
#include "fs/base/result.h"

namespace layerfs::run {

struct ExitRecord {
  int status = 128 + 9;
  std::int64_t finished = 0;  ///< seconds since 1970; 0: nobody saw it end
  bool out_of_memory = false;
};

class ExitFile {
 public:
  ExitFile() = default;
  /// Errors: ENOSPC...
  static Result<ExitFile> create(const std::string& container_dir);
  /// Over what was there; takes no space.
  Result<void> write(const ExitRecord& record) const;

 private:
  explicit ExitFile(Fd fd) : fd_(std::move(fd)) {}
  Fd fd_;
};

/// nullopt where the container never ran, or the file is damaged.
std::optional<ExitRecord> read_exit(const std::string& container_dir);

}  // namespace layerfs::run
