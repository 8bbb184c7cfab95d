// SPDX-License-Identifier: Apache-2.0
#include "fs/base/digest.h"

namespace layerfs {

namespace {
int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}
constexpr std::string_view kPrefix = "sha256:";
}  // namespace

std::string Digest::hex() const {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(2 * kSize);
  for (std::uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

std::string Digest::str() const { return std::string(kPrefix) + hex(); }

Result<Digest> parse_hex_digest(std::string_view hex) {
  Digest digest;
  if (hex.size() != 2 * Digest::kSize) return invalid_error("parse digest", hex, "not 64 hex digits");
  for (std::size_t i = 0; i < Digest::kSize; ++i) {
    int high = hex_value(hex[2 * i]);
    int low = hex_value(hex[2 * i + 1]);
    if (high < 0 || low < 0) return invalid_error("parse digest", hex, "not lower-case hex");
    digest.bytes[i] = static_cast<std::uint8_t>(high << 4 | low);
  }
  return digest;
}

Result<Digest> parse_digest(std::string_view text) {
  if (!text.starts_with(kPrefix)) {
    if (text.starts_with("sha512:"))
      return unsupported_error("parse digest", text, "only sha256 is supported");
    return invalid_error("parse digest", text, "does not begin with 'sha256:'");
  }
  return parse_hex_digest(text.substr(kPrefix.size()));
}

}  // namespace layerfs
