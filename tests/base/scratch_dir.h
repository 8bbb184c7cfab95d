// SPDX-License-Identifier: Apache-2.0
// A directory of a test's own, below $TMPDIR, gone with the object.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "fs/base/sys_file.h"

namespace layerfs {

class ScratchDir {
 public:
  ScratchDir() {
    const char* parent = std::getenv("TMPDIR");
    path_ = std::string(parent != nullptr ? parent : "/tmp") + "/layerfs-base.XXXXXX";
    if (::mkdtemp(path_.data()) == nullptr) ADD_FAILURE() << "no scratch directory: " << path_;
  }
  ScratchDir(const ScratchDir&) = delete;
  ScratchDir& operator=(const ScratchDir&) = delete;
  ~ScratchDir() { EXPECT_TRUE(remove_tree(path_)); }

  const std::string& path() const { return path_; }
  std::string operator/(std::string_view name) const { return join_path(path_, name); }

 private:
  std::string path_;
};

}  // namespace layerfs
