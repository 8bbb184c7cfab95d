// SPDX-License-Identifier: Apache-2.0
// XXH64 (Collet, "xxHash fast digest algorithm", the 64-bit variant, seed 0): the checksum of what the store
// writes for itself. It finds damage, not malice; contents have their SHA-256.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace layerfs::store {

class Xxh64 {
 public:
  void update(std::string_view data);
  /// The checksum of everything so far.
  std::uint64_t value() const;

 private:
  static constexpr std::uint64_t kPrime1 = 0x9E3779B185EBCA87ULL;
  static constexpr std::uint64_t kPrime2 = 0xC2B2AE3D27D4EB4FULL;

  std::array<std::uint64_t, 4> lanes_{kPrime1 + kPrime2, kPrime2, 0, 0 - kPrime1};
  std::array<char, 32> pending_{};  // less than one stripe
  std::size_t pending_size_ = 0;
  std::uint64_t total_ = 0;
};

std::uint64_t xxh64(std::string_view data);

}  // namespace layerfs::store
