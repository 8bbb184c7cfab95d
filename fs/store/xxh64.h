// SPDX-License-Identifier: Apache-2.0
// XXH64 with seed 0, by xxHash: the checksum of what the store writes for itself. It finds damage, not malice;
// contents have their SHA-256.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

namespace layerfs::store {

std::uint64_t xxh64(std::string_view data);

/// The same of pieces. One thread.
class Xxh64 {
 public:
  Xxh64();
  ~Xxh64();
  Xxh64(const Xxh64&) = delete;
  Xxh64& operator=(const Xxh64&) = delete;
  void update(std::string_view data);
  /// The checksum of everything so far.
  std::uint64_t value() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace layerfs::store
