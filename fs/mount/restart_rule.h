// SPDX-License-Identifier: Apache-2.0
// RestartRule: whether a server that died is replaced. One that is killed now and then is; one that dies
// whenever it starts, of a request that comes again or of its upper, is given up, so that nobody waits for
// ever.
#pragma once

#include <chrono>

namespace layerfs::mount {

class RestartRule {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr int kMostAtOnce = 5;
  /// A server that lived for less after it was ready died at once.
  static constexpr std::chrono::milliseconds kAtOnce{100};

  /// To be called when a server answers.
  void ready(Clock::time_point now) { ready_since_ = now; }
  /// To be called when it died. False: no other.
  bool may_restart(Clock::time_point now) {
    bool lived = ready_since_ != Clock::time_point() && now - ready_since_ >= kAtOnce;
    deaths_at_once_ = lived ? 0 : deaths_at_once_ + 1;
    ready_since_ = {};
    return deaths_at_once_ < kMostAtOnce;
  }
  /// How long to wait before the next server: nothing, unless the last died at once.
  std::chrono::milliseconds pause() const { return std::chrono::milliseconds(50) * deaths_at_once_; }

 private:
  Clock::time_point ready_since_;
  int deaths_at_once_ = 0;
};

}  // namespace layerfs::mount
