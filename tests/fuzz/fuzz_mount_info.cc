// SPDX-License-Identifier: Apache-2.0
// Fuzz target: the text of /proc/PID/mountinfo. What is read, written as the kernel writes it, is read as the
// same.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "fs/base/mount_info.h"

namespace {

/// As the kernel's mangle(): blanks, tabs, newlines and backslashes in octal.
std::string escape(const std::string& text) {
  std::string escaped;
  for (char c : text) {
    if (std::string_view(" \t\n\\").find(c) == std::string_view::npos) {
      escaped += c;
      continue;
    }
    char digits[5];
    std::snprintf(digits, sizeof digits, "\\%03o", static_cast<unsigned>(static_cast<unsigned char>(c)));
    escaped += digits;
  }
  return escaped;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto entries = layerfs::parse_mount_info({reinterpret_cast<const char*>(data), size});
  std::string text;
  for (const auto& entry : entries)
    text += std::to_string(entry.id) + ' ' + std::to_string(entry.parent) + ' ' +
            std::to_string(entry.device_major) + ':' + std::to_string(entry.device_minor) + ' ' +
            escape(entry.root) + ' ' + escape(entry.path) + ' ' + entry.options + " shared:1 - " +
            escape(entry.type) + ' ' + escape(entry.source) + ' ' + entry.super_options + '\n';
  if (layerfs::parse_mount_info(text) != entries) std::abort();
  return 0;
}
