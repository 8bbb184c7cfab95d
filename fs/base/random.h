// SPDX-License-Identifier: Apache-2.0
// Random numbers of the kernel, for names and ids that nobody else has or guesses. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace layerfs {

/// getrandom(2); where a kernel or a seccomp profile refuses it, std::random_device.
void fill_random(std::span<std::byte> buffer);
/// A random number that is not 0.
std::uint64_t random_id();
/// Two lower-case digits for each of `bytes` random bytes.
std::string random_hex(std::size_t bytes);

}  // namespace layerfs
