// SPDX-License-Identifier: Apache-2.0
#include "tools/io.h"

#include <fmt/format.h>
#include <unistd.h>
#include <CLI/CLI.hpp>

#include <ctime>
#include <sstream>

#include "fs/base/process_start.h"
#include "fs/base/sys_file.h"

namespace layerfs::tools {

namespace {

int report(std::string_view program, std::string_view message) {
  write_standard_error(fmt::format("{}: {}\n", program, message));
  return kExitError;
}

}  // namespace

int report_error(const Tool& tool, const Error& error) { return report(tool.program, error.message()); }

int report_exception(std::string_view program, const std::exception& error) {
  return report(program, error.what());
}

int end_parsing(std::string_view program, const CLI::App& app, const CLI::ParseError& error) {
  std::ostringstream text;
  bool asked = app.exit(error, text, text) == 0;  // --help, --version
  if (!asked) {
    write_standard_error(text.view());
    return kExitUsage;
  }
  auto printed = print(text.view());
  return printed ? 0 : report(program, printed.error().message());
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
