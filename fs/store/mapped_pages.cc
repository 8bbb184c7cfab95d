// SPDX-License-Identifier: Apache-2.0
#include "fs/store/mapped_pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <optional>
#include <string_view>

#include "fs/base/sys_file.h"

namespace layerfs::store {

namespace {

/// The number at the beginning of `text`, which is cut off with one character behind it.
std::optional<std::uint64_t> take_number(std::string_view& text, int base) {
  std::uint64_t number = 0;
  auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  if (code != std::errc()) return std::nullopt;
  text.remove_prefix(std::min(text.size(), static_cast<std::size_t>(end - text.data()) + 1));
  return number;
}

/// proc_pid_maps(5): "begin-end perms offset ...", one mapping a line.
std::span<std::byte> find_mapping(std::string_view maps, std::uintptr_t inside) {
  while (!maps.empty()) {
    std::string_view line = maps.substr(0, maps.find('\n'));
    maps.remove_prefix(std::min(maps.size(), line.size() + 1));
    auto begin = take_number(line, 16);
    auto end = begin ? take_number(line, 16) : std::nullopt;
    if (!end || inside < *begin || inside >= *end) continue;
    return {std::bit_cast<std::byte*>(static_cast<std::uintptr_t>(*begin)), *end - *begin};
  }
  return {};
}

/// Bytes of files that are resident: "shared" of proc_pid_statm(5).
std::optional<std::uint64_t> resident_of_files() {
  auto text = read_file("/proc/self/statm");
  if (!text) return std::nullopt;
  std::string_view rest = *text;
  for (int skipped = 0; skipped < 2; ++skipped)
    if (!take_number(rest, 10)) return std::nullopt;
  auto pages = take_number(rest, 10);
  if (!pages) return std::nullopt;
  return *pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

void MappedPages::look(const void* inside) {
  auto resident = resident_of_files();
  if (!resident || *resident <= allowed_.load(std::memory_order_relaxed)) return;
  std::call_once(found_, [&] {
    if (auto maps = read_file("/proc/self/maps"))
      mapping_ = find_mapping(*maps, std::bit_cast<std::uintptr_t>(inside));
  });
  if (mapping_.empty() || ::madvise(mapping_.data(), mapping_.size(), MADV_DONTNEED) != 0) return;
  if (auto left = resident_of_files())
    allowed_.store(std::max(kAllowed, *left + kSlack), std::memory_order_relaxed);
}

}  // namespace layerfs::store
