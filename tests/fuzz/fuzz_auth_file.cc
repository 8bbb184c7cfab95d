// SPDX-License-Identifier: Apache-2.0
// Fuzz target: bytes as a file of credentials. No host gets what was kept for another.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "fs/registry/auth_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace layerfs::registry;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  for (auto kind : {AuthFileKind::kCurrent, AuthFileKind::kDockercfg}) {
    auto file = parse_auth_file(text, kind);
    if (!file) continue;
    for (const auto& [key, credentials] : file->auths) {
      auto found = find_credentials(*file, "other.invalid", "a/b");
      if (found && normalised_auth_key(key) != "other.invalid" && file->auths.size() == 1) std::abort();
    }
  }
  if (auto bytes = decode_base64(text))
    if (decode_base64(encode_base64(*bytes)) != bytes) std::abort();
  return 0;
}
