// SPDX-License-Identifier: Apache-2.0
// Where layerfs-oci says what went wrong: on standard error, and in the file of --log as text or JSON, which
// engines read.
#pragma once

#include <string>

#include "fs/base/result.h"

namespace layerfs::tools {

struct OciLog {
  std::string file;
  bool json = false;
  /// Makes the file where it is missing. `destination` may begin with "file:", as crun has it. Errors: it
  /// cannot be written; a destination that is none of a file ("syslog:", "journald:").
  Result<void> open(const std::string& destination);
  /// Standard error and the file. A file that cannot be written is said on standard error.
  void error(const std::string& message) const;
};

}  // namespace layerfs::tools
