// SPDX-License-Identifier: Apache-2.0
// What is said of a container that the kernel took processes from for lack of memory.
#pragma once

#include <cstdint>
#include <string>

namespace layerfs::container {

/// For a message. `kills`: how many; `exit_code`: how the container ended; `limit`: in bytes, 0 or less
/// where it had none of its own. Empty where nothing was killed.
std::string describe_out_of_memory(std::uint64_t kills, int exit_code, std::int64_t limit);

}  // namespace layerfs::container
