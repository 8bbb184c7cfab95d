// SPDX-License-Identifier: Apache-2.0
// Every call of the process that changes a file system (write, fsync, rename, unlink, mkdir...; LMDB's too)
// goes through here, is counted, and at a chosen one the process is killed or the call fails with ENOSPC. The
// C library's functions are taken over by definitions of the same names in the test program.
#pragma once

#include <string>
#include <vector>

namespace layerfs::store::fault {

enum class Action : unsigned char {
  kCount,  ///< only count
  kKill,   ///< SIGKILL before the call is made
  kFail,   ///< -1 and ENOSPC instead of the call; this one only
  kFull,   ///< ENOSPC for this and every later one that needs space (not unlink, not rename)
};

/// From now on: `action` at the `at`-th call (from 1) of any thread.
void arm(Action action, int at = 0);
/// Calls pass again; returns how many were counted.
int disarm();

/// A flush or a rename that was made: fsync, fdatasync or syncfs with the path of the file, or rename with
/// both paths.
struct Event {
  std::string call;
  std::string path;
  std::string to;
};
/// From now on events are kept, in the order in which they ended.
void record_events();
/// No more; returns what was kept.
std::vector<Event> take_events();

}  // namespace layerfs::store::fault
