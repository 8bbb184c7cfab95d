// SPDX-License-Identifier: Apache-2.0
// Digest: a SHA-256 value, the name of every content, layer, manifest and chain (OCI image-spec,
// descriptor.md: `sha256:` and 64 lower-case hex digits).
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>

#include "fs/base/result.h"

namespace layerfs {

struct Digest {
  static constexpr std::size_t kSize = 32;
  std::array<std::uint8_t, kSize> bytes{};

  auto operator<=>(const Digest&) const = default;
  /// 64 hex digits.
  std::string hex() const;
  /// `sha256:` and 64 hex digits.
  std::string str() const;
  bool is_zero() const { return *this == Digest{}; }
};

/// `sha256:` and 64 lower-case hex digits. Errors: kInvalid (kUnsupported for another algorithm).
Result<Digest> parse_digest(std::string_view text);
/// 64 lower-case hex digits. Errors: kInvalid.
Result<Digest> parse_hex_digest(std::string_view hex);

}  // namespace layerfs

template <>
struct std::hash<layerfs::Digest> {
  std::size_t operator()(const layerfs::Digest& digest) const noexcept {
    std::size_t value;
    std::memcpy(&value, digest.bytes.data(), sizeof value);
    return value;
  }
};
