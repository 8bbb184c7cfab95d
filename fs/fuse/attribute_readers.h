// SPDX-License-Identifier: Apache-2.0
// AttributeReaders: which thread was lately told the attributes of a directory. It decides whether a change
// of a directory's entries has to be followed by a notification to the kernel.
//
// The kernel keeps the attributes that a reply gives it without a time limit. When the entries of a directory
// are changed, it lets the attributes of that directory expire as soon as it has the answer. A reply with the
// attributes from before the change may reach its thread later than that answer, and then the kernel keeps
// the old attributes. For a change of a file's bytes or mode the kernel has a guard of its own (attr_version
// in fs/fuse): it refuses such a reply. For a change of a directory's entries it has none, so the server
// sends a notification afterwards. That costs a system call, so it is sent only where a thread other than the
// one that asked for the change may still have such a reply on the way. Any thread.
//
// (1) Whoever makes a reply notes its thread before it looks at the attributes, and whoever makes a change
//     asks after it was made: either the reply has the change, or the change sees the thread.
// (2) A thread that asks for a change has received all replies to its earlier requests.
// (3) A reply that has not arrived after kLongest is not reckoned with any more. Several directories share a
//     slot, which now and then costs a notification that was not needed.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "fs/tree/node.h"

namespace layerfs::fuse {

class AttributeReaders {
 public:
  /// `thread`: fuse_in_header.pid, 0 where it is not known. Requires: the attributes are looked at
  /// afterwards.
  void note(tree::Ino directory, std::uint32_t thread);
  /// Replies of an earlier server, to whomever, may be on the way.
  void note_all();
  /// True where a reply from before a change that `thread` asked for may come after it. Requires: the change
  /// was made.
  bool may_be_late(tree::Ino directory, std::uint32_t thread) const;

 private:
  static constexpr std::size_t kSlots = 4096;
  static constexpr std::uint32_t kLongest = 60;  // seconds

  // A reader, or kSeveral, in the low half; the second when it was noted in the high one.
  std::array<std::atomic<std::uint64_t>, kSlots> slots_{};
};

}  // namespace layerfs::fuse
