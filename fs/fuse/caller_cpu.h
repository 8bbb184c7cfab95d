// SPDX-License-Identifier: Apache-2.0
// CallerCpu: keeps a worker on the processor of the one process whose requests it answers. Such a caller and
// the server take turns and never run at once, so a second processor is of no use to them, and waking a
// thread on another one is the dearest part of a request (above all on a virtual machine). Where several
// callers are at work, the worker is the scheduler's to place.
//
// (1) Of one thread: made and used by it. It moves that thread only, and never off the processors that the
//     thread was allowed at the start.
// (2) Callers are looked up in a procfs of the PID namespace in which requests number them, by its
//     descriptor.
// (3) What can't be found out (no such procfs, a caller that is gone) is no error: the thread stays free.
#pragma once

#include <sched.h>

#include <cstdint>

namespace layerfs::fuse {

class CallerCpu {
 public:
  /// `processes`: that procfs, open as long as this object lives; -1: there is none.
  explicit CallerCpu(int processes);
  CallerCpu(const CallerCpu&) = delete;
  CallerCpu& operator=(const CallerCpu&) = delete;
  ~CallerCpu() { let_go(); }

  /// A request of thread `caller` (fuse_in_header.pid; 0 where it has none) was read.
  void note(std::uint32_t caller);
  /// That the thread is kept on; -1: it is free.
  int processor() const { return processor_; }

 private:
  void follow();
  void let_go();

  const int processes_;
  cpu_set_t allowed_{};
  std::uint32_t caller_ = 0;
  unsigned in_a_row_ = 0;
  unsigned of_others_ = 0;
  int processor_ = -1;  // that this thread is kept on
};

}  // namespace layerfs::fuse
