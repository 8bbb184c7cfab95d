// SPDX-License-Identifier: Apache-2.0
#include "tools/io.h"

#include <fmt/format.h>
#include <unistd.h>

#include <ctime>

#include "fs/base/sys_file.h"

namespace layerfs::tools {

int report_error(const Tool& tool, const Error& error) {
  fmt::print(stderr, "{}: {}\n", tool.program, error.message());
  return kExitError;
}

void finish(Tool& tool, const Result<void>& done) {
  if (!done) tool.status = report_error(tool, done.error());
}

Result<void> print(std::string_view text) {
  if (auto written = write_full(STDOUT_FILENO, std::as_bytes(std::span(text))); !written)
    return with_context(written.error(), "standard output");
  return {};
}

std::string human_size(unsigned long long bytes) {
  constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB", "PB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1000 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.3g} {}", value, kUnits[unit]);
}

std::string human_age(long long seconds) {
  long long age = static_cast<long long>(std::time(nullptr)) - seconds;
  struct Step {
    long long length;
    const char* name;
  };
  constexpr Step kSteps[] = {{31'536'000, "year"}, {2'592'000, "month"}, {604'800, "week"},
                             {86'400, "day"},      {3'600, "hour"},      {60, "minute"}};
  for (const auto& step : kSteps) {
    long long count = age / step.length;
    if (count >= 1) return fmt::format("{} {}{} ago", count, step.name, count == 1 ? "" : "s");
  }
  return fmt::format("{} second{} ago", age, age == 1 ? "" : "s");
}

}  // namespace layerfs::tools
