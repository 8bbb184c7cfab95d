// SPDX-License-Identifier: Apache-2.0
// Fuzz target: bytes as a reference. What is taken reads as the same again, and is safe in a URL's path.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "fs/registry/reference.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace layerfs::registry;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  auto reference = parse_reference(text, ShortNames::kDockerHub);
  if (!reference) return 0;
  if (reference->host.empty() || reference->path.empty() || reference->version().empty()) std::abort();
  std::string whole = reference->str();
  if (whole.find_first_of(" \t\r\n?#%\\") != std::string::npos || whole.find("..") != std::string::npos)
    std::abort();
  auto again = parse_reference(whole, ShortNames::kRefused);
  if (!again || *again != *reference) std::abort();
  return 0;
}
