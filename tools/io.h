// SPDX-License-Identifier: Apache-2.0
// What every command shares: the global options, and how results and errors reach the user.
//
// Exit status: 0 done, 1 an error (its message on standard error), 2 wrong usage; `run` passes the
// container's own status, 125 where it could not be started (also for wrong usage of `run`), 126 / 127 where
// its command could not (as podman-run(1)).
#pragma once

#include <exception>
#include <string>
#include <string_view>

#include "fs/base/result.h"

namespace CLI {
class App;
class ParseError;
}  // namespace CLI

namespace layerfs::tools {

inline constexpr int kExitError = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitNotStarted = 125;

struct Tool {
  std::string program = "layerfs";
  std::string store_root;       ///< --root, else store::default_store_root()
  bool store_is_named = false;  ///< by --root or LAYERFS_ROOT
  int status = 0;               ///< what main returns; a command's callback sets it
};

/// Prints `program: message` on standard error and returns kExitError.
int report_error(const Tool& tool, const Error& error);
/// The same of what main() catches.
int report_exception(std::string_view program, const std::exception& error);
/// What the command line's end was: a text that was asked for (0, or 1 where it cannot be written), or wrong
/// usage.
int end_parsing(std::string_view program, const CLI::App& app, const CLI::ParseError& error);
/// The end of a command: an error is reported and becomes the program's status.
void finish(Tool& tool, const Result<void>& done);
/// Writes all of `text` to standard output. Errors: EPIPE, ENOSPC...
Result<void> print(std::string_view text);
/// "1.2 MB": decimal units, as Podman prints sizes.
std::string human_size(unsigned long long bytes);
/// "2 hours ago" of seconds since 1970.
std::string human_age(long long seconds);
/// A table with columns wide enough for their cells, two spaces apart; first row is the heading.
template <class Rows>
std::string format_table(const Rows& rows) {
  std::string text;
  std::size_t columns = rows.empty() ? 0 : rows.front().size();
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < columns; ++i) {
      std::size_t width = 0;
      for (const auto& other : rows) width = other[i].size() > width ? other[i].size() : width;
      line += row[i];
      if (i + 1 < columns) line.append(width - row[i].size() + 2, ' ');
    }
    text += line + '\n';
  }
  return text;
}

}  // namespace layerfs::tools
