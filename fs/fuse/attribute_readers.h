// SPDX-License-Identifier: Apache-2.0
// AttributeReaders: which thread was told the attributes of a directory of late. The kernel keeps what it is
// told for ever. What a change makes of a directory's attributes it lets expire, once the change is answered;
// but a reply that was made before the change may reach its thread after that, and brings the old ones back,
// for ever. Changes of a file's bytes or mode move a number of the kernel's (attr_version in fs/fuse) which
// such a reply is then refused by; changes of a directory's entries do not, and a notification does. It costs
// a system call, so it is sent only where somebody else than the one who changes may have such a reply on the
// way. Any thread.
//
// (1) A reply notes its reader before it looks at the attributes, a change asks after it was made: either the
//     reply has the change, or the change sees the reader.
// (2) A thread that asks for a change has got all of its own replies.
// (3) Whoever has not got a reply after kLongest is not reckoned with any more. Directories share slots,
//     which costs a needless notification now and then.
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
