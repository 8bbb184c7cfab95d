// SPDX-License-Identifier: Apache-2.0
// SlowUpper: an upper in memory of which one look at a node can be held up, so that something else happens
// between a look and what is made of it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "fs/upper/memory_upper.h"
#include "tests/union/union_fixture.h"

namespace layerfs::unionfs {

/// Holds one look at a node up: it has read the node, and does not give it back yet.
class HoldUp {
 public:
  void arm(tree::Ino ino, int look) {
    std::lock_guard lock(mutex_);
    ino_ = ino;
    look_ = look;
    held_ = false;
  }
  void pass(tree::Ino ino) {
    std::unique_lock lock(mutex_);
    if (ino != ino_ || look_ == 0 || --look_ != 0) return;
    held_ = true;
    moved_.notify_all();
    moved_.wait_for(lock, kLongest, [&] { return !held_; });
  }
  /// False: nobody came.
  bool wait_until_held() {
    std::unique_lock lock(mutex_);
    return moved_.wait_for(lock, kLongest, [&] { return held_; });
  }
  void let_go() {
    std::lock_guard lock(mutex_);
    held_ = false;
    look_ = 0;
    moved_.notify_all();
  }

 private:
  static constexpr std::chrono::seconds kLongest{5};
  std::mutex mutex_;  // guards all
  std::condition_variable moved_;
  tree::Ino ino_{0};
  int look_ = 0;  // which look from now on is held up; 0: none
  bool held_ = false;
};

class SlowUpper final : public FaultyUpper {
 public:
  explicit SlowUpper(HoldUp& hold) : FaultyUpper(upper::make_memory_upper()), hold_(hold) {}
  std::optional<tree::Node> find_node(tree::Ino ino) const override {
    auto node = FaultyUpper::find_node(ino);
    hold_.pass(ino);
    return node;
  }

 private:
  HoldUp& hold_;
};

}  // namespace layerfs::unionfs
