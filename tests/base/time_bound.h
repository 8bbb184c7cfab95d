// SPDX-License-Identifier: Apache-2.0
/// \file
/// Bounds in time that hold on a machine that is busy with other things, and under a sanitizer, which slows a program down
/// tenfold and more.
#pragma once

#include <time.h>

#include <chrono>

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

/// `limit`, a time that the program as it is shipped has for something; forty times as much under a sanitizer.
template <typename Duration>
constexpr Duration patience(Duration limit) {
  return kSanitized ? limit * 40 : limit;
}

/// The processor time of this process since this was made, all threads together: what others do beside it does not count.
class ProcessorTimer {
 public:
  std::chrono::nanoseconds elapsed() const { return now() - start_; }

 private:
  static std::chrono::nanoseconds now() {
    timespec time{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
  }

  std::chrono::nanoseconds start_ = now();
};

}  // namespace layerfs
