// SPDX-License-Identifier: Apache-2.0
#include "runtime/run/labels_file.h"

#include <fcntl.h>

#include <nlohmann/json.hpp>
#include <span>

#include "fs/base/sys_file.h"
#include "fs/mount/container_dir.h"

namespace layerfs::run {

namespace {

constexpr const char* kLabelsName = "labels";
constexpr std::size_t kLabelsLimit = std::size_t{1} << 20;

}  // namespace

Result<void> write_labels(const std::string& container_dir, const Labels& labels) {
  std::string text = nlohmann::json(labels).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  LAYERFS_ASSIGN(Fd fd,
                 mount::open_container_file(container_dir, kLabelsName, O_WRONLY | O_CREAT | O_TRUNC, 0600));
  return write_full(fd.get(), std::as_bytes(std::span(text)));
}

Labels read_labels(const std::string& container_dir) {
  auto text = mount::read_container_file(container_dir, kLabelsName, kLabelsLimit);
  if (!text) return {};
  auto document = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!document.is_object()) return {};
  Labels labels;
  for (const auto& [name, value] : document.items())
    if (value.is_string()) labels[name] = value.get<std::string>();
  return labels;
}

}  // namespace layerfs::run
