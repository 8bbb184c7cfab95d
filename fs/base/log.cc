// SPDX-License-Identifier: Apache-2.0
#include "fs/base/log.h"

#include <unistd.h>

#include <atomic>
#include <string>

#include "fs/base/result.h"

namespace layerfs {

namespace {
// The one process-wide setting: a log that had to be passed to every destructor would not be used.
std::atomic<LogLevel> current_level{LogLevel::kWarning};
std::atomic<int> current_fd{STDERR_FILENO};
constexpr std::string_view kNames[] = {"error", "warning", "info", "debug"};
}  // namespace

void set_log_level(LogLevel level) { current_level.store(level, std::memory_order_relaxed); }
LogLevel log_level() { return current_level.load(std::memory_order_relaxed); }
void set_log_fd(int fd) { current_fd.store(fd, std::memory_order_relaxed); }

void log_line(LogLevel level, std::string_view text) {
  if (level > log_level()) return;
  std::string line = "layerfs: ";
  line += kNames[static_cast<unsigned char>(level)];
  line += ": ";
  line += printable(text, kMaxMessage);
  line += '\n';
  [[maybe_unused]] auto ignored =
      ::write(current_fd.load(std::memory_order_relaxed), line.data(), line.size());
}

}  // namespace layerfs
