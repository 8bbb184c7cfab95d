// SPDX-License-Identifier: Apache-2.0
// CRC-32C (Castagnoli), by the processor's instruction where it has one. Any thread.
#pragma once

#include <cstdint>
#include <string_view>

namespace layerfs::upper {

/// The checksum of `data` after bytes whose checksum is `before` (0: none).
std::uint32_t crc32c(std::string_view data, std::uint32_t before = 0);
/// The same without special instructions, for the test that compares them.
std::uint32_t crc32c_portable(std::string_view data, std::uint32_t before = 0);

}  // namespace layerfs::upper
