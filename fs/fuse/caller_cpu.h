// SPDX-License-Identifier: Apache-2.0
// CallerCpu: keeps a worker on the processor of the one process whose requests it answers. Such a caller and
// the server take turns and never run at once, so a second processor is of no use to them, and waking a
// thread on another one is the dearest part of a request (above all on a virtual machine). Where several
// callers are at work, the worker is the scheduler's to place.
//
// (1) Of one thread: made and used by it. It moves that thread only, and never off the processors that the
//     thread was allowed at the start.
// (2) What can't be found out (a caller of another PID namespace, no /proc) is no error: the thread stays
// free.
#pragma once

#include <sched.h>

#include <cstdint>

namespace layerfs::fuse {

class CallerCpu {
 public:
  CallerCpu();
  CallerCpu(const CallerCpu&) = delete;
  CallerCpu& operator=(const CallerCpu&) = delete;
  ~CallerCpu() { let_go(); }

  /// A request of thread `caller` (fuse_in_header.pid; 0 where it has none) was read. Requires: its number is
  /// one of this process's PID namespace.
  void note(std::uint32_t caller);

 private:
  void follow();
  void let_go();

  cpu_set_t allowed_{};
  std::uint32_t caller_ = 0;
  unsigned in_a_row_ = 0;
  unsigned of_others_ = 0;
  int processor_ = -1;  // that this thread is kept on
};

}  // namespace layerfs::fuse
