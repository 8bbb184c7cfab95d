// SPDX-License-Identifier: Apache-2.0
// SHA-256 by OpenSSL. One Sha256 is used by one thread at a time.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include "fs/base/digest.h"

namespace layerfs {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void update(std::span<const std::byte> data);
  void update(std::string_view data) { update(std::as_bytes(std::span(data))); }
  /// The digest of everything since construction or the last finish(); ready for the next message.
  Digest finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

Digest sha256(std::span<const std::byte> data);
Digest sha256(std::string_view data);

}  // namespace layerfs
