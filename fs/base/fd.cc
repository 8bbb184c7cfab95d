// SPDX-License-Identifier: Apache-2.0
#include "fs/base/fd.h"

#include <unistd.h>

#include <cerrno>

#include "fs/base/log.h"
#include "fs/base/result.h"

namespace layerfs {

void Fd::reset(int fd) {
  int old = std::exchange(fd_, fd);
  if (old < 0) return;
  // EINTR from close(2) on Linux still closes: never retried (close(2), NOTES).
  if (::close(old) != 0 && errno != EINTR) log_warning("close descriptor {}: {}", old, errno_text(errno));
}

}  // namespace layerfs
