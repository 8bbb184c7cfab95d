// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/crc32c.h"

#include <array>
#include <cstddef>
#include <cstring>

#include "fs/base/bytes.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#endif

namespace layerfs::upper {

namespace {

constexpr std::uint32_t kPolynomial = 0x82F63B78;  // reflected

/// Tables for eight bytes at a time: table[k][b] is the effect of byte b followed by k zero bytes.
using Tables = std::array<std::array<std::uint32_t, 256>, 8>;
constexpr Tables make_tables() {
  Tables tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    tables[0][byte] = crc;
  }
  for (std::size_t k = 1; k < 8; ++k)
    for (std::size_t byte = 0; byte < 256; ++byte)
      tables[k][byte] = (tables[k - 1][byte] >> 8) ^ tables[0][tables[k - 1][byte] & 0xFF];
  return tables;
}
constexpr Tables kTables = make_tables();

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) std::uint32_t crc32c_hardware(std::string_view data, std::uint32_t before) {
  std::uint64_t crc = ~before;
  const char* at = data.data();
  std::size_t left = data.size();
  for (; left >= 8; left -= 8, at += 8) crc = _mm_crc32_u64(crc, load_le<std::uint64_t>(at));
  auto low = static_cast<std::uint32_t>(crc);
  for (; left > 0; --left, ++at) low = _mm_crc32_u8(low, static_cast<std::uint8_t>(*at));
  return ~low;
}
bool has_hardware() {
  static const bool has = __builtin_cpu_supports("sse4.2") != 0;
  return has;
}
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
std::uint32_t crc32c_hardware(std::string_view data, std::uint32_t before) {
  std::uint32_t crc = ~before;
  const char* at = data.data();
  std::size_t left = data.size();
  for (; left >= 8; left -= 8, at += 8) crc = __crc32cd(crc, load_le<std::uint64_t>(at));
  for (; left > 0; --left, ++at) crc = __crc32cb(crc, static_cast<std::uint8_t>(*at));
  return ~crc;
}
constexpr bool has_hardware() { return true; }
#else
std::uint32_t crc32c_hardware(std::string_view data, std::uint32_t before) {
  return crc32c_portable(data, before);
}
constexpr bool has_hardware() { return false; }
#endif

}  // namespace

std::uint32_t crc32c_portable(std::string_view data, std::uint32_t before) {
  std::uint32_t crc = ~before;
  const char* at = data.data();
  std::size_t left = data.size();
  for (; left >= 8; left -= 8, at += 8) {
    const std::uint64_t word = load_le<std::uint64_t>(at) ^ crc;
    crc = 0;
    for (std::size_t k = 0; k < 8; ++k) crc ^= kTables[7 - k][(word >> (8 * k)) & 0xFF];
  }
  for (; left > 0; --left, ++at) crc = (crc >> 8) ^ kTables[0][(crc ^ static_cast<std::uint8_t>(*at)) & 0xFF];
  return ~crc;
}

std::uint32_t crc32c(std::string_view data, std::uint32_t before) {
  return has_hardware() ? crc32c_hardware(data, before) : crc32c_portable(data, before);
}

}  // namespace layerfs::upper
