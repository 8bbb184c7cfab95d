// SPDX-License-Identifier: Apache-2.0
// Fuzz target: bytes as registries.conf, before the first NUL, and as a name after it. A blocked registry is never an
// endpoint; a drop-in of the same text changes nothing.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "fs/registry/registries_conf.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace layerfs::registry;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  std::size_t end = text.find('\0');
  auto conf = parse_registries_conf(text.substr(0, end));
  if (!conf) return 0;
  RegistriesConf twice = *conf;
  put_over(twice, *conf);
  if (twice.registries != conf->registries || twice.aliases != conf->aliases) std::abort();
  if (end == std::string_view::npos) return 0;
  auto resolved = resolve_name(*conf, text.substr(end + 1));
  if (!resolved) return 0;
  for (const auto& candidate : resolved->candidates) {
    auto endpoints = find_endpoints(*conf, candidate);
    if (!endpoints) continue;
    if (endpoints->empty() || endpoints->back().is_mirror) std::abort();
  }
  return 0;
}
