// SPDX-License-Identifier: Apache-2.0
// The log: lines to standard error, or to a file once a server is in the background. Any thread.
#pragma once

#include <fmt/format.h>

#include <string_view>
#include <utility>

namespace layerfs {

enum class LogLevel : unsigned char { kError, kWarning, kInfo, kDebug };

/// Lines above `level` are dropped. The default is kWarning.
void set_log_level(LogLevel level);
LogLevel log_level();
/// Sends the log to `fd` (not owned, must stay open). The default is standard error.
void set_log_fd(int fd);
/// One line, in a single write(2) or for HeldLog. Never fails, never allocates more than the line. What it quotes may hold
/// anything: the line is printable text of at most kMaxMessage bytes (result.h).
void log_line(LogLevel level, std::string_view text);

/// From its beginning on lines are kept; its end writes them. For who must not write where a file may not be changed
/// yet: the log may be such a file. One at a time.
class HeldLog {
 public:
  HeldLog();
  ~HeldLog();
  HeldLog(const HeldLog&) = delete;
  HeldLog& operator=(const HeldLog&) = delete;
};

template <class... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::kError, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  if (log_level() >= LogLevel::kWarning)
    log_line(LogLevel::kWarning, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  if (log_level() >= LogLevel::kInfo)
    log_line(LogLevel::kInfo, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  if (log_level() >= LogLevel::kDebug)
    log_line(LogLevel::kDebug, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace layerfs
