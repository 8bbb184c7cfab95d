// SPDX-License-Identifier: Apache-2.0
// FreezeGate: changing calls pass it; a freeze closes it and waits until the last of them has left. Any
// thread, also another for thaw() than for freeze().
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <shared_mutex>
#include <utility>

#include "fs/base/result.h"
#include "fs/union/union_fs.h"

namespace layerfs::unionfs {

class FreezeGate {
 public:
  /// Inside the gate for the length of its scope.
  class Pass {
   public:
    /// Waits while the gate is closed.
    explicit Pass(FreezeGate& gate) : gate_(&gate) { gate.enter(); }
    Pass(Pass&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}
    Pass& operator=(Pass&&) = delete;
    ~Pass() {
      if (gate_ != nullptr) gate_->leave();
    }

   private:
    friend class FreezeGate;
    struct Entered {};
    Pass(FreezeGate& gate, Entered) : gate_(&gate) {}
    FreezeGate* gate_;
  };
  /// Errors: ERESTART where the gate is closed and `when_frozen` is kFail.
  Result<Pass> pass(WhenFrozen when_frozen);

  void enter();
  /// False, at once, where the gate is closed.
  bool try_enter();
  void leave() { inside_.unlock_shared(); }

  /// Closes the gate and waits until nobody is inside; false where it was closed already.
  bool close();
  void open();

 private:
  std::shared_mutex inside_;         // held shared by those inside
  std::atomic<bool> closed_{false};  // written under mutex_; read again once inside_ is held
  std::mutex mutex_;
  std::condition_variable opened_;
};

}  // namespace layerfs::unionfs
