// SPDX-License-Identifier: Apache-2.0
#include "fs/union/freeze_gate.h"

#include <cerrno>

namespace layerfs::unionfs {

bool FreezeGate::try_enter() {
  if (closed_.load()) return false;
  inside_.lock_shared();
  // close() sets the flag before it waits for inside_: who gets in after that sees it here.
  if (!closed_.load()) return true;
  inside_.unlock_shared();
  return false;
}

Result<FreezeGate::Pass> FreezeGate::pass(WhenFrozen when_frozen) {
  if (when_frozen == WhenFrozen::kWait)
    enter();
  else if (!try_enter())
    return errno_error(ERESTART);
  return Pass(*this, Pass::Entered{});
}

void FreezeGate::enter() {
  while (!try_enter()) {
    std::unique_lock hold(mutex_);
    opened_.wait(hold, [this] { return !closed_.load(); });
  }
}

bool FreezeGate::close() {
  {
    std::lock_guard hold(mutex_);
    if (closed_.exchange(true)) return false;
  }
  inside_.lock();
  inside_.unlock();
  return true;
}

void FreezeGate::open() {
  {
    std::lock_guard hold(mutex_);
    closed_.store(false);
  }
  opened_.notify_all();
}

}  // namespace layerfs::unionfs
