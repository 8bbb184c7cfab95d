// SPDX-License-Identifier: Apache-2.0
// FreezeGate: changing calls pass it; a freeze closes it and waits until the last of them has left. Any
// thread, also another for thaw() than for freeze().
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <shared_mutex>

namespace layerfs::unionfs {

class FreezeGate {
 public:
  /// Inside the gate for the length of its scope; waits while it is closed.
  class Pass {
   public:
    explicit Pass(FreezeGate& gate) : gate_(gate) { gate_.enter(); }
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;
    ~Pass() { gate_.leave(); }

   private:
    FreezeGate& gate_;
  };

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
