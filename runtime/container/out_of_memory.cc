// SPDX-License-Identifier: Apache-2.0
#include "runtime/container/out_of_memory.h"

#include <fmt/format.h>
#include <signal.h>

namespace layerfs::container {

std::string describe_out_of_memory(std::uint64_t kills, int exit_code, std::int64_t limit) {
  if (kills == 0) return {};
  std::string limit_text = limit > 0 ? fmt::format(" (limit {} MiB)", limit >> 20) : "";
  if (exit_code == 128 + SIGKILL) return "the container ran out of memory and was killed" + limit_text;
  return fmt::format("{} process{} of the container ran out of memory and {} killed{}", kills,
                     kills == 1 ? "" : "es", kills == 1 ? "was" : "were", limit_text);
}

}  // namespace layerfs::container
