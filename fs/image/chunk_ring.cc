// SPDX-License-Identifier: Apache-2.0
#include "fs/image/chunk_ring.h"

#include <algorithm>
#include <cstring>

namespace layerfs::image {

ChunkRing::ChunkRing(std::size_t consumers, std::size_t slots, std::size_t chunk_size)
    : chunk_size_(chunk_size), slots_(slots), tails_(consumers) {}

std::uint64_t ChunkRing::slowest_locked() const {
  return std::ranges::min_element(tails_, {}, &Tail::done)->done;
}

Result<std::span<std::byte>> ChunkRing::acquire() {
  std::unique_lock lock(mutex_);
  room_.wait(lock, [&] { return aborted_ || head_ - slowest_locked() < slots_.size(); });
  if (aborted_) return errno_error(ECANCELED);
  Slot& slot = slots_[head_ % slots_.size()];
  lock.unlock();
  // The slot is the producer's alone now. Left uninitialised: a small layer touches one buffer's first pages.
  if (!slot.bytes) slot.bytes = std::make_unique_for_overwrite<std::byte[]>(chunk_size_);
  return std::span(slot.bytes.get(), chunk_size_);
}

void ChunkRing::commit(std::size_t size) {
  if (size == 0) return;
  std::lock_guard lock(mutex_);
  slots_[head_ % slots_.size()].size = size;
  ++head_;
  data_.notify_all();
}

Result<void> ChunkRing::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    LAYERFS_ASSIGN(auto buffer, acquire());
    std::size_t size = std::min(bytes.size(), buffer.size() - filled_);
    std::memcpy(buffer.data() + filled_, bytes.data(), size);
    bytes = bytes.subspan(size);
    filled_ += size;
    if (filled_ == buffer.size()) {
      commit(filled_);
      filled_ = 0;
    }
  }
  return {};
}

void ChunkRing::close() {
  commit(filled_);
  filled_ = 0;
  std::lock_guard lock(mutex_);
  closed_ = true;
  data_.notify_all();
}

void ChunkRing::abort() {
  std::lock_guard lock(mutex_);
  aborted_ = true;
  data_.notify_all();
  room_.notify_all();
}

bool ChunkRing::aborted() const {
  std::lock_guard lock(mutex_);
  return aborted_;
}

Result<std::span<const std::byte>> ChunkRing::next(std::size_t consumer) {
  std::unique_lock lock(mutex_);
  Tail& tail = tails_[consumer];
  if (tail.holds) {
    tail.holds = false;
    ++tail.done;
    room_.notify_one();  // there is one producer
  }
  data_.wait(lock, [&] { return aborted_ || closed_ || tail.done < head_; });
  if (aborted_) return errno_error(ECANCELED);
  if (tail.done == head_) return std::span<const std::byte>{};
  tail.holds = true;
  const Slot& slot = slots_[tail.done % slots_.size()];
  return std::span<const std::byte>(slot.bytes.get(), slot.size);
}

}  // namespace layerfs::image
