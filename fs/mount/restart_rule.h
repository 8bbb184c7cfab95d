// SPDX-License-Identifier: Apache-2.0
// RestartRule: whether a server that died is replaced. A server that is killed now and then is replaced. A mount
// whose servers die as soon as they start (of a request that is sent again, or of their upper), or very often, is
// given up, so that nobody waits for it for ever.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <string>

namespace layerfs::mount {

class RestartRule {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr int kMostAtOnce = 5;
  static constexpr std::size_t kMostInAMinute = 100;
  /// A server that lived for less after it was ready died at once.
  static constexpr std::chrono::milliseconds kAtOnce{100};

  /// To be called when a server answers.
  void ready(Clock::time_point now) { ready_since_ = now; }
  /// To be called when the server died. False: there is to be no other.
  bool may_restart(Clock::time_point now) {
    bool lived = ready_since_ != Clock::time_point() && now - ready_since_ >= kAtOnce;
    deaths_at_once_ = lived ? 0 : deaths_at_once_ + 1;
    ready_since_ = {};
    deaths_[next_death_] = now;
    next_death_ = (next_death_ + 1) % deaths_.size();
    Clock::time_point oldest = deaths_[next_death_];
    too_many_ = oldest != Clock::time_point() && now - oldest < std::chrono::minutes(1);
    return deaths_at_once_ < kMostAtOnce && !too_many_;
  }
  /// How long to wait before the next server: nothing, unless the last died at once.
  std::chrono::milliseconds pause() const { return std::chrono::milliseconds(50) * deaths_at_once_; }
  /// Why there is no other: "died 5 times at once".
  std::string why() const {
    if (deaths_at_once_ >= kMostAtOnce) return "died " + std::to_string(kMostAtOnce) + " times at once";
    return "died " + std::to_string(kMostInAMinute) + " times within a minute";
  }

 private:
  Clock::time_point ready_since_;
  int deaths_at_once_ = 0;
  std::array<Clock::time_point, kMostInAMinute> deaths_{};  // the latest, around next_death_
  std::size_t next_death_ = 0;
  bool too_many_ = false;
};

}  // namespace layerfs::mount
