// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/attribute_readers.h"

#include <time.h>

namespace layerfs::fuse {
namespace {

// No thread's number: those end at 2^22 (proc(5), pid_max).
constexpr std::uint32_t kSeveral = UINT32_MAX;

std::uint64_t pack(std::uint32_t reader, std::uint32_t second) {
  return std::uint64_t{second} << 32 | reader;
}
std::uint32_t reader_of(std::uint64_t slot) { return static_cast<std::uint32_t>(slot); }
std::uint32_t second_of(std::uint64_t slot) { return static_cast<std::uint32_t>(slot >> 32); }

/// From 1 on: a slot of 0 has never been written.
std::uint32_t this_second() {
  struct timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
  return static_cast<std::uint32_t>(time.tv_sec) + 1;
}

std::size_t slot_of(tree::Ino directory, std::size_t slots) {
  return (to_number(directory) * 0x9E3779B97F4A7C15ULL >> 32) % slots;
}

}  // namespace

void AttributeReaders::note(tree::Ino directory, std::uint32_t thread) {
  auto& slot = slots_[slot_of(directory, kSlots)];
  const std::uint32_t now = this_second();
  std::uint64_t old = slot.load();
  for (;;) {
    const bool others = old != 0 && now - second_of(old) <= kLongest && reader_of(old) != thread;
    const std::uint64_t noted = pack(others || thread == 0 ? kSeveral : thread, now);
    if (noted == old || slot.compare_exchange_weak(old, noted)) return;
  }
}

void AttributeReaders::note_all() {
  const std::uint64_t noted = pack(kSeveral, this_second());
  for (auto& slot : slots_) slot.store(noted);
}

bool AttributeReaders::may_be_late(tree::Ino directory, std::uint32_t thread) const {
  const std::uint64_t slot = slots_[slot_of(directory, kSlots)].load();
  return slot != 0 && reader_of(slot) != thread && this_second() - second_of(slot) <= kLongest;
}

}  // namespace layerfs::fuse
