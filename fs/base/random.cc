// SPDX-License-Identifier: Apache-2.0
#include "fs/base/random.h"

#include <sys/random.h>

#include <cerrno>
#include <random>
#include <vector>

namespace layerfs {

void fill_random(std::span<std::byte> buffer) {
  while (!buffer.empty()) {
    ssize_t got = ::getrandom(buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) break;
    buffer = buffer.subspan(static_cast<std::size_t>(got));
  }
  if (buffer.empty()) return;
  std::random_device device;
  for (std::byte& byte : buffer) byte = static_cast<std::byte>(device());
}

std::uint64_t random_id() {
  std::uint64_t id = 0;
  while (id == 0) fill_random(std::as_writable_bytes(std::span(&id, 1)));
  return id;
}

std::string random_hex(std::size_t bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::vector<std::byte> random(bytes);
  fill_random(random);
  std::string text;
  text.reserve(2 * bytes);
  for (std::byte byte : random) {
    text += kDigits[std::to_integer<unsigned>(byte) >> 4];
    text += kDigits[std::to_integer<unsigned>(byte) & 15];
  }
  return text;
}

}  // namespace layerfs
