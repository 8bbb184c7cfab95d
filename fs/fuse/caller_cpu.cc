// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/caller_cpu.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <optional>
#include <string_view>

#include "fs/base/process_stat.h"
#include "fs/base/sys_file.h"

namespace layerfs::fuse {
namespace {

/// Requests of one caller in a row before it is looked for, and from then on between two looks: a look costs
/// about as much as a request, and one on another processor ten times as much.
constexpr unsigned kFirstLook = 4;
constexpr unsigned kLookAgain = 16;
/// Requests of others in a row that end it: a FORGET or a helper's single stat does not.
constexpr unsigned kOthers = 4;

std::optional<int> find_processor(int processes, std::uint32_t thread) {
  auto file = open_at(processes, fmt::format("{}/stat", thread), O_RDONLY);
  if (!file) return std::nullopt;
  std::array<char, 1024> text{};  // the longest name has 64 characters, and a number 20
  const ssize_t size = ::read(file->get(), text.data(), text.size());
  if (size <= 0) return std::nullopt;
  const std::string_view last =
      find_stat_field({text.data(), static_cast<std::size_t>(size)}, StatField::kProcessor);
  int processor = -1;
  auto [end, error] = std::from_chars(last.data(), last.data() + last.size(), processor);
  if (error != std::errc{} || processor < 0 || processor >= CPU_SETSIZE) return std::nullopt;
  return processor;
}

}  // namespace

CallerCpu::CallerCpu(int processes) : processes_(processes) {
  // Where the machine has more processors than the set holds this fails, and nothing is in the set.
  if (::sched_getaffinity(0, sizeof allowed_, &allowed_) != 0) CPU_ZERO(&allowed_);
}

void CallerCpu::note(std::uint32_t caller) {
  if (caller == 0 || processes_ < 0) return;
  if (caller != caller_) {
    if (processor_ >= 0 && ++of_others_ < kOthers) return;
    let_go();
    caller_ = caller;
    in_a_row_ = 0;
    return;
  }
  of_others_ = 0;
  if (++in_a_row_ % kLookAgain == kFirstLook) follow();
}

void CallerCpu::follow() {
  auto processor = find_processor(processes_, caller_);
  if (!processor || *processor == processor_) return;
  if (!CPU_ISSET(static_cast<std::size_t>(*processor), &allowed_)) return;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<std::size_t>(*processor), &one);
  if (::sched_setaffinity(0, sizeof one, &one) == 0) processor_ = *processor;
}

void CallerCpu::let_go() {
  of_others_ = 0;
  if (processor_ < 0) return;
  ::sched_setaffinity(0, sizeof allowed_, &allowed_);
  processor_ = -1;
}

}  // namespace layerfs::fuse
