// SPDX-License-Identifier: Apache-2.0
#include "fs/base/log.h"

#include <unistd.h>

#include <atomic>
#include <mutex>
#include <optional>
#include <string>

#include "fs/base/result.h"

namespace layerfs {

namespace {
// The one process-wide setting: a log that had to be passed to every destructor would not be used.
std::atomic<LogLevel> current_level{LogLevel::kWarning};
std::atomic<int> current_fd{STDERR_FILENO};
std::atomic<bool> is_held = false;  // so that nobody else takes the lock, such as the child of a fork(2)
std::mutex held_mutex;
std::optional<std::string> held_lines;  // guarded by held_mutex; nullopt: lines are written
constexpr std::size_t kMostHeld = std::size_t{1} << 20;

void write_log(std::string_view text) {
  [[maybe_unused]] auto ignored =
      ::write(current_fd.load(std::memory_order_relaxed), text.data(), text.size());
}
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
  if (is_held.load(std::memory_order_acquire)) {
    const std::lock_guard lock(held_mutex);
    if (held_lines) {
      if (held_lines->size() + line.size() <= kMostHeld) *held_lines += line;
      return;
    }
  }
  write_log(line);
}

HeldLog::HeldLog() {
  const std::lock_guard lock(held_mutex);
  held_lines.emplace();
  is_held.store(true, std::memory_order_release);
}

HeldLog::~HeldLog() {
  std::optional<std::string> lines;
  {
    const std::lock_guard lock(held_mutex);
    is_held.store(false, std::memory_order_release);
    lines.swap(held_lines);
  }
  if (lines && !lines->empty()) write_log(*lines);
}

}  // namespace layerfs
