// SPDX-License-Identifier: Apache-2.0
// Adapter: what every operation gets (the file system, how ids are shown, what was negotiated), and the one
// wrapper that runs operations. Shared by all workers.
//
// (1) An operation replies exactly once, as its last act, unless its change is held back (session.h, 7).
// (2) Whatever an operation throws becomes a reply here: nothing that a request does ends the server.
// (3) A reply that names an inode owes the core one forget; where the kernel did not take the reply (the
//     caller was killed meanwhile) the adapter pays it back at once.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <string_view>
#include <vector>

#include "fs/base/result.h"
#include "fs/fuse/attribute_readers.h"
#include "fs/fuse/fuse_server.h"
#include "fs/fuse/libfuse.h"
#include "fs/fuse/memory_bound.h"
#include "fs/fuse/ring.h"
#include "fs/fuse/worker.h"
#include "fs/union/union_fs.h"

namespace layerfs::fuse {

struct Adapter {
  unionfs::UnionFs& fs;
  FuseOptions options;
  /// User 0 of the requests is the machine's own root, and has CAP_FSETID.
  bool root_is_real = false;
  fuse_session* session = nullptr;  ///< set before the first request
  // Set once by the INIT request, before any other is read.
  bool initialised = false;
  bool extended_setxattr = false;
  bool handles_killpriv = false;
  bool can_keep_open = false;   ///< the kernel takes ENOSYS to OPEN and OPENDIR (Linux 5.1)
  bool routes_replies = false;  ///< replies leave by reply_road.h
  bool init_answered = false;   ///< with routes_replies
  /// For requests over io_uring; empty where they come through /dev/fuse.
  std::vector<std::unique_ptr<Ring>> rings;
  AttributeReaders readers;
  /// Asked before a change that keeps something more, by answer_growing().
  MemoryBound memory{options.most_memory};
};

/// Who sent the request, with ids as the tree stores them.
unionfs::Caller caller_of(fuse_req_t req, const Adapter& adapter);
/// Whether that is the machine's own root. Which capabilities it has is not in a request.
bool is_from_root(fuse_req_t req, const Adapter& adapter);

void reply_failure(fuse_req_t req, std::string_view operation, const Error& error);
void reply_exception(fuse_req_t req, std::string_view operation, const std::exception& exception);

void reply_done(fuse_req_t req, std::string_view operation, const Result<void>& result);
void reply_entry(fuse_req_t req, Adapter& adapter, std::string_view operation,
                 const Result<unionfs::Entry>& result);
void reply_attributes(fuse_req_t req, const Adapter& adapter, std::string_view operation, unionfs::Ino ino,
                      const Result<unionfs::Node>& result);
/// For getxattr and listxattr: the value, its size where `size` is 0, or ERANGE.
void reply_value(fuse_req_t req, std::string_view operation, std::size_t size,
                 const Result<std::string>& result);

/// What a reply tells the kernel about a node; `timeout` of attributes and entry is for ever, since nobody
/// but this kernel changes the file system.
fuse_entry_param to_entry_param(const Adapter& adapter, const unionfs::Entry& entry);
fuse_entry_param negative_entry();

/// `node` for a reply. Of a directory the reader is noted, and it is looked at once more.
Result<unionfs::Node> to_be_told(Adapter& adapter, unionfs::Ino ino, Result<unionfs::Node> node);
/// Makes the kernel ask for the attributes again, and refuse replies that were made before; pages stay. Safe
/// inside a request on the inode: no lock of its pages is taken for a negative offset.
void expire_attributes(const Adapter& adapter, unionfs::Ino ino);
/// After entries of the directory were changed: the same, where it is needed.
void expire_late_replies(const Adapter& adapter, unionfs::Ino directory);

/// Runs `operation(adapter)` and turns what it throws into a reply (invariant 2).
template <class F>
void answer(fuse_req_t req, std::string_view name, F&& operation) {
  auto& adapter = *static_cast<Adapter*>(fuse_req_userdata(req));
  try {
    operation(adapter);
  } catch (const std::exception& exception) {
    reply_exception(req, name, exception);
  }
}

/// The same for an operation after which the server keeps `size` bytes more, about: ENOSPC where it may not.
template <class F>
void answer_growing(fuse_req_t req, std::string_view name, std::uint64_t size, F&& operation) {
  answer(req, name, [&](Adapter& adapter) {
    if (!adapter.memory.has_room(size)) return reply_failure(req, name, errno_error(ENOSPC).error());
    operation(adapter);
  });
}

}  // namespace layerfs::fuse
