// SPDX-License-Identifier: Apache-2.0
#include "tools/oci_log.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <ctime>
#include <span>

#include "fs/base/process_start.h"
#include "fs/base/sys_file.h"
#include "tools/json_text.h"

namespace layerfs::tools {

namespace {

std::string now_text() {
  std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

Result<void> append_line(const std::string& path, const std::string& line) {
  LAYERFS_ASSIGN(Fd fd, open_file(path, O_WRONLY | O_CREAT | O_APPEND, 0644));
  return write_full(fd.get(), std::as_bytes(std::span(line)));
}

}  // namespace

Result<void> OciLog::open(const std::string& destination) {
  for (std::string_view backend : {"syslog:", "journald:"})
    if (destination.starts_with(backend))
      return unsupported_error("--log", destination, "only files are supported");
  std::string path = destination.starts_with("file:") ? destination.substr(5) : destination;
  if (auto opened = append_line(path, {}); !opened) return with_context(opened.error(), "--log");
  file = std::move(path);
  return {};
}

void OciLog::error(const std::string& message) const {
  write_standard_error(fmt::format("layerfs-oci: {}\n", message));
  if (file.empty()) return;
  std::string line;
  if (json) {
    nlohmann::json entry{{"msg", message}, {"level", "error"}, {"time", now_text()}};
    line = json_line(entry);
  } else {
    line = fmt::format("time=\"{}\" level=error msg=\"{}\"\n", now_text(), message);
  }
  if (auto written = append_line(file, line); !written)
    write_standard_error(fmt::format("layerfs-oci: {}\n", written.error().message()));
}

}  // namespace layerfs::tools
