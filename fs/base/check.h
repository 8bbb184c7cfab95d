// SPDX-License-Identifier: Apache-2.0
// LAYERFS_CHECK: our own bugs only, never bytes from disk, tar, kernel or user. It throws CheckFailure,
// which the FUSE op wrapper answers with EIO and main reports; nothing else catches it.
#pragma once

#include <stdexcept>
#include <string>

namespace layerfs {

struct CheckFailure : std::logic_error {
  using std::logic_error::logic_error;
};

[[noreturn]] inline void check_failed(const char* file, int line, const char* expression) {
  throw CheckFailure(std::string(file) + ":" + std::to_string(line) + ": check failed: " + expression);
}

}  // namespace layerfs

#define LAYERFS_CHECK(expression) \
  ((expression) ? static_cast<void>(0) : ::layerfs::check_failed(__FILE__, __LINE__, #expression))
