// SPDX-License-Identifier: Apache-2.0
#include "tools/cmd_progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "fs/base/process_start.h"
#include "runtime/sys/terminal.h"
#include "tools/io.h"

namespace layerfs::tools {

std::string progress_text(std::uint64_t done, std::uint64_t total, const std::string& after,
                          std::size_t width) {
  constexpr std::size_t kLongestBar = 30;
  constexpr std::size_t kShortestBar = 5;
  std::string text = human_size(done) + (total > 0 ? " of " + human_size(total) : std::string()) + after;
  if (total > 0) {
    double part = std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
    text = fmt::format("{:3.0f}%  {}", part * 100, text);
    std::size_t room = width > text.size() + 3 ? width - text.size() - 3 : 0;  // with brackets and a blank
    if (room >= kShortestBar) {
      std::size_t length = std::min(room, kLongestBar);
      auto filled = static_cast<std::size_t>(part * static_cast<double>(length));
      text = fmt::format("[{}{}] {}", std::string(filled, '='), std::string(length - filled, ' '), text);
    }
  }
  return text.substr(0, width);
}

ProgressLine::ProgressLine(Shown shown)
    : shows_(shown == Shown::kWhereTerminal && sys::is_terminal(STDERR_FILENO)) {}

ProgressLine::~ProgressLine() {
  if (drawn_) write_standard_error("\r\x1b[K");
}

void ProgressLine::draw(std::uint64_t done, std::uint64_t total, const std::string& after) {
  if (!shows_) return;
  auto now = std::chrono::steady_clock::now();
  if (drawn_ && now - last_ < std::chrono::milliseconds(50)) return;
  last_ = now;
  drawn_ = true;
  constexpr std::size_t kUsualWidth = 80;
  std::size_t columns = sys::window_size(STDERR_FILENO).columns;
  if (columns == 0) columns = kUsualWidth;
  // The last column stays free: a terminal may wrap as soon as it is written.
  write_standard_error("\r\x1b[K" + progress_text(done, total, after, columns - 1));
}

}  // namespace layerfs::tools
