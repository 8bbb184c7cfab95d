// SPDX-License-Identifier: Apache-2.0
// MappedPages: keeps the resident part of a file's map, through which nothing is written, small. LMDB reads
// through a map, so a walk of a large tree would leave all of it in the resident set of a process whose
// memory is to grow with what is changed, not with what is read. The pages stay in the page cache: to look at
// one again is a minor fault.
//
// (1) Any thread, while others read the map: a page that is taken away under them comes back as it was.
// (2) Where /proc does not tell, nothing is trimmed.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>

namespace layerfs::store {

class MappedPages {
 public:
  MappedPages() = default;
  MappedPages(const MappedPages&) = delete;
  MappedPages& operator=(const MappedPages&) = delete;

  /// To be called with every read. `inside`: any byte of the mapping, which is shared, of a file, and stays
  /// mapped as long as this is used. Now and then it lets go of the map's pages (MADV_DONTNEED), where the
  /// process has more of files resident than is allowed.
  void touched(const void* inside) {
    if (reads_.fetch_add(1, std::memory_order_relaxed) % kReadsBeforeLook == kReadsBeforeLook - 1)
      look(inside);
  }

  /// Resident pages of files, the process's own text among them, that may stay.
  static constexpr std::uint64_t kAllowed = std::uint64_t{32} << 20;
  /// A fault maps up to 64 KiB around it (fault_around_bytes): reads far from each other bring 8 MiB
  /// meanwhile.
  static constexpr unsigned kReadsBeforeLook = 128;

 private:
  /// Where other maps alone hold so much, only what comes on top of them is a reason.
  static constexpr std::uint64_t kSlack = std::uint64_t{16} << 20;

  void look(const void* inside);

  std::atomic<unsigned> reads_{0};
  std::atomic<std::uint64_t> allowed_{kAllowed};
  std::once_flag found_;
  std::span<std::byte> mapping_;
};

}  // namespace layerfs::store
