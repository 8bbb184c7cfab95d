// SPDX-License-Identifier: Apache-2.0
// CRC-32C (Castagnoli; RFC 3720), by ISA-L. Any thread.
#pragma once

#include <cstdint>
#include <string_view>

namespace layerfs::upper {

/// The checksum of `data` after bytes whose checksum is `before` (0: none).
std::uint32_t crc32c(std::string_view data, std::uint32_t before = 0);

}  // namespace layerfs::upper
