// SPDX-License-Identifier: Apache-2.0
#include "fs/base/log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "fs/base/sys_file.h"
#include "tests/base/scratch_dir.h"

namespace layerfs {
namespace {

TEST(HeldLog, KeepsLinesUntilItsEnd) {
  ScratchDir scratch;
  const std::string path = scratch / "log";
  const Fd file = open_file(path, O_WRONLY | O_CREAT | O_APPEND, 0600).value();
  set_log_fd(file.get());
  const auto text = [&] { return read_file(path, 4096).value(); };
  log_warning("before");
  {
    const HeldLog held;
    log_warning("one");
    log_error("two");
    EXPECT_EQ(text(), "layerfs: warning: before\n");
  }
  EXPECT_EQ(text(), "layerfs: warning: before\nlayerfs: warning: one\nlayerfs: error: two\n");
  log_warning("after");
  EXPECT_TRUE(text().ends_with("layerfs: warning: after\n"));
  set_log_fd(STDERR_FILENO);
}

}  // namespace
}  // namespace layerfs
