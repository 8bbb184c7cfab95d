// SPDX-License-Identifier: Apache-2.0
// Integers to and from bytes of a stated order, and a bounds-checked reader for on-disk records.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

namespace layerfs {

using ByteSpan = std::span<const std::byte>;

inline ByteSpan as_bytes(std::string_view text) { return std::as_bytes(std::span(text)); }
inline std::string_view as_text(ByteSpan bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

template <class T>
T load_le(const void* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  if constexpr (std::endian::native == std::endian::big) value = std::byteswap(value);
  return value;
}
template <class T>
T load_be(const void* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  if constexpr (std::endian::native == std::endian::little) value = std::byteswap(value);
  return value;
}
template <class T>
void append_le(std::string& to, T value) {
  if constexpr (std::endian::native == std::endian::big) value = std::byteswap(value);
  to.append(reinterpret_cast<const char*>(&value), sizeof value);
}
/// Big-endian, so that bytewise key order is numeric order.
template <class T>
void append_be(std::string& to, T value) {
  if constexpr (std::endian::native == std::endian::little) value = std::byteswap(value);
  to.append(reinterpret_cast<const char*>(&value), sizeof value);
}

/// Reads little-endian fields off the front of untrusted bytes. After a read past the end every
/// further read gives zero or empty, and ok() is false: check it once, after the last field.
class ByteReader {
 public:
  explicit ByteReader(std::string_view data) : data_(data) {}
  template <class T>
  T le() {
    if (data_.size() < sizeof(T)) return fail(), T{};
    T value = load_le<T>(data_.data());
    data_.remove_prefix(sizeof(T));
    return value;
  }
  std::string_view take(std::size_t size) {
    if (data_.size() < size) return fail(), std::string_view{};
    std::string_view taken = data_.substr(0, size);
    data_.remove_prefix(size);
    return taken;
  }
  std::string_view rest() const { return data_; }
  bool ok() const { return ok_; }
  /// All fields were there and nothing is left.
  bool done() const { return ok_ && data_.empty(); }

 private:
  void fail() {
    ok_ = false;
    data_ = {};
  }
  std::string_view data_;
  bool ok_ = true;
};

}  // namespace layerfs
