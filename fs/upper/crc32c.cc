// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/crc32c.h"

#include <isa-l/crc.h>

#include <cstddef>

namespace layerfs::upper {

std::uint32_t crc32c(std::string_view data, std::uint32_t before) {
  // ISA-L gives and takes the register before its last inversion, and lengths as int.
  constexpr std::size_t kMost = std::size_t{1} << 30;
  std::uint32_t state = ~before;
  while (!data.empty()) {
    const std::string_view part = data.substr(0, kMost);
    // It only reads the buffer, whatever its type says.
    auto* bytes = reinterpret_cast<unsigned char*>(const_cast<char*>(part.data()));
    state = crc32_iscsi(bytes, static_cast<int>(part.size()), state);
    data.remove_prefix(part.size());
  }
  return ~state;
}

}  // namespace layerfs::upper
