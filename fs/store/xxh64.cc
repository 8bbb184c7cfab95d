// SPDX-License-Identifier: Apache-2.0
#include "fs/store/xxh64.h"

// Compiled in: the headers are all that is needed of the library, here and on the machine that runs this.
#define XXH_INLINE_ALL
#include <xxhash.h>

namespace layerfs::store {

std::uint64_t xxh64(std::string_view data) { return XXH64(data.data(), data.size(), 0); }

struct Xxh64::State {
  XXH64_state_t state;
};

Xxh64::Xxh64() : state_(std::make_unique<State>()) { XXH64_reset(&state_->state, 0); }
Xxh64::~Xxh64() = default;
void Xxh64::update(std::string_view data) {
  // No piece is refused: that is for a null pointer, which an empty one may have.
  if (!data.empty()) XXH64_update(&state_->state, data.data(), data.size());
}
std::uint64_t Xxh64::value() const { return XXH64_digest(&state_->state); }

}  // namespace layerfs::store
