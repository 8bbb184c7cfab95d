// SPDX-License-Identifier: Apache-2.0
// ProgressLine: how far a long command is, on one line of standard error that is written over again. Only
// where that is a terminal, and never longer than its width: what wraps is not written over but repeated.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

namespace layerfs::tools {

/// "[====      ]  40%  1.2 GB of 3 GB, layer 2 of 5" in at most `width` columns; what finds no place is left
/// out: the bar gets shorter and goes, then the text is cut. `total` 0: unknown, and so no bar.
std::string progress_text(std::uint64_t done, std::uint64_t total, const std::string& after,
                          std::size_t width);

class ProgressLine {
 public:
  enum class Shown : std::uint8_t { kWhereTerminal, kNever };
  explicit ProgressLine(Shown shown);
  /// Clears the line.
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  /// Draws, unless it has just drawn. `after`: what follows the numbers.
  void draw(std::uint64_t done, std::uint64_t total, const std::string& after);

 private:
  bool shows_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace layerfs::tools
