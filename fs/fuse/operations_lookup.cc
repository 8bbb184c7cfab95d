// SPDX-License-Identifier: Apache-2.0
#include <linux/fuse.h>

#include "fs/base/log.h"
#include "fs/fuse/adapter.h"
#include "fs/fuse/convert.h"
#include "fs/fuse/operations.h"

namespace layerfs::fuse {
namespace {

using unionfs::Ino;

void lookup(fuse_req_t req, fuse_ino_t parent, const char* name) {
  answer(req, "lookup", [&](Adapter& adapter) {
    auto entry = adapter.fs.lookup(Ino{parent}, name);
    if (!entry && entry.error().code == ENOENT) {
      // An entry without a node is "not there", with a timeout: the kernel remembers it.
      fuse_entry_param nothing = negative_entry();
      fuse_reply_entry(req, &nothing);
      return;
    }
    if (entry) entry->node = *to_be_told(adapter, entry->ino, entry->node);
    reply_entry(req, adapter, "lookup", entry);
  });
}

void forget(fuse_req_t req, fuse_ino_t ino, std::uint64_t count) {
  auto& adapter = *static_cast<Adapter*>(fuse_req_userdata(req));
  try {
    adapter.fs.forget(Ino{ino}, count);
  } catch (const std::exception& exception) {
    // FORGET has no reply: the node stays remembered until the mount ends, which costs a few bytes.
    log_error("forget: {}", exception.what());
  }
  fuse_reply_none(req);
}

void forget_multi(fuse_req_t req, std::size_t count, fuse_forget_data* forgets) {
  auto& adapter = *static_cast<Adapter*>(fuse_req_userdata(req));
  try {
    for (std::size_t i = 0; i < count; ++i) adapter.fs.forget(Ino{forgets[i].ino}, forgets[i].nlookup);
  } catch (const std::exception& exception) {
    log_error("forget: {}", exception.what());
  }
  fuse_reply_none(req);
}

void getattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info*) {
  answer(req, "getattr", [&](Adapter& adapter) {
    reply_attributes(req, adapter, "getattr", Ino{ino},
                     to_be_told(adapter, Ino{ino}, adapter.fs.getattr(Ino{ino})));
  });
}

void setattr(fuse_req_t req, fuse_ino_t ino, struct stat* attributes, int, fuse_file_info*) {
  answer(req, "setattr", [&](Adapter& adapter) {
    auto changes = to_set_attr(adapter.options.ids, *attributes, current_worker().details.setattr_valid);
    reply_attributes(req, adapter, "setattr", Ino{ino},
                     adapter.fs.setattr(Ino{ino}, changes, caller_of(req, adapter)));
  });
}

void readlink(fuse_req_t req, fuse_ino_t ino) {
  answer(req, "readlink", [&](Adapter& adapter) {
    auto target = adapter.fs.readlink(Ino{ino});
    if (!target) return reply_failure(req, "readlink", target.error());
    fuse_reply_readlink(req, target->c_str());
  });
}

void statfs(fuse_req_t req, fuse_ino_t) {
  answer(req, "statfs", [&](Adapter& adapter) {
    auto numbers = adapter.fs.statfs();
    if (!numbers) return reply_failure(req, "statfs", numbers.error());
    fuse_reply_statfs(req, &*numbers);
  });
}

}  // namespace

void add_lookup_operations(fuse_lowlevel_ops& operations) {
  operations.lookup = lookup;
  operations.forget = forget;
  operations.forget_multi = forget_multi;
  operations.getattr = getattr;
  operations.setattr = setattr;
  operations.readlink = readlink;
  operations.statfs = statfs;
}

}  // namespace layerfs::fuse
