// SPDX-License-Identifier: Apache-2.0
/// \file
/// Whether the test program is built with a sanitizer, which slows it down tenfold and more, and what then becomes of bounds.
#pragma once

namespace layerfs {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif
#else
inline constexpr bool kSanitized = false;
#endif

/// `limit`, a time that the program as it is shipped has for something, on a machine that does other things too; forty
/// times as much under a sanitizer.
template <typename Duration>
constexpr Duration patience(Duration limit) {
  return kSanitized ? limit * 40 : limit;
}

}  // namespace layerfs
