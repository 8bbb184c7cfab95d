// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "fs/fuse/adapter.h"
#include "fs/fuse/operations.h"

namespace layerfs::fuse {
namespace {

using unionfs::Ino;

/// The answer to what made an entry in `directory`.
void reply_new(fuse_req_t req, Adapter& adapter, std::string_view operation, Ino directory,
               const Result<unionfs::Entry>& made) {
  expire_late_replies(adapter, directory);
  reply_entry(req, adapter, operation, made);
}

void mknod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, dev_t rdev) {
  answer_growing(req, "mknod", std::strlen(name), [&](Adapter& adapter) {
    reply_new(req, adapter, "mknod", Ino{parent},
              adapter.fs.mknod(Ino{parent}, name, mode, rdev, caller_of(req, adapter)));
  });
}

void mkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) {
  answer_growing(req, "mkdir", std::strlen(name), [&](Adapter& adapter) {
    reply_new(req, adapter, "mkdir", Ino{parent},
              adapter.fs.mkdir(Ino{parent}, name, mode, caller_of(req, adapter)));
  });
}

void symlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name) {
  answer_growing(req, "symlink", std::strlen(target) + std::strlen(name), [&](Adapter& adapter) {
    reply_new(req, adapter, "symlink", Ino{parent},
              adapter.fs.symlink(Ino{parent}, name, target, caller_of(req, adapter)));
  });
}

void unlink(fuse_req_t req, fuse_ino_t parent, const char* name) {
  answer(req, "unlink", [&](Adapter& adapter) {
    auto done = adapter.fs.unlink(Ino{parent}, name, caller_of(req, adapter));
    expire_late_replies(adapter, Ino{parent});
    reply_done(req, "unlink", done);
  });
}

void rmdir(fuse_req_t req, fuse_ino_t parent, const char* name) {
  answer(req, "rmdir", [&](Adapter& adapter) {
    auto done = adapter.fs.rmdir(Ino{parent}, name, caller_of(req, adapter));
    expire_late_replies(adapter, Ino{parent});
    reply_done(req, "rmdir", done);
  });
}

void rename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t new_parent, const char* new_name,
            unsigned flags) {
  answer_growing(req, "rename", std::strlen(new_name), [&](Adapter& adapter) {
    auto done =
        adapter.fs.rename(Ino{parent}, name, Ino{new_parent}, new_name, flags, caller_of(req, adapter));
    expire_late_replies(adapter, Ino{parent});
    if (new_parent != parent) expire_late_replies(adapter, Ino{new_parent});
    reply_done(req, "rename", done);
  });
}

void link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char* new_name) {
  answer_growing(req, "link", std::strlen(new_name), [&](Adapter& adapter) {
    reply_new(req, adapter, "link", Ino{new_parent},
              adapter.fs.link(Ino{ino}, Ino{new_parent}, new_name, caller_of(req, adapter)));
  });
}

/// O_TMPFILE: the kernel wants it opened in the same message, and sends one RELEASE for it later.
[[maybe_unused]] void tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, fuse_file_info* file) {
  answer_growing(req, "tmpfile", 0, [&](Adapter& adapter) {
    auto entry = adapter.fs.tmpfile(Ino{parent}, mode, caller_of(req, adapter));
    if (!entry) return reply_failure(req, "tmpfile", entry.error());
    fuse_entry_param param = to_entry_param(adapter, *entry);
    file->keep_cache = 1;
    if (fuse_reply_create(req, &param, file) != 0) adapter.fs.forget(entry->ino, 1);
  });
}

/// ENOSYS, once: files are created by MKNOD from then on.
void create(fuse_req_t req, fuse_ino_t, const char*, mode_t, fuse_file_info*) { fuse_reply_err(req, ENOSYS); }

/// libfuse has the operation since O_TMPFILE came to FUSE; without it the kernel is told ENOSYS.
template <class Operations>
void add_tmpfile(Operations& operations) {
  if constexpr (requires { operations.tmpfile; }) operations.tmpfile = tmpfile;
}

}  // namespace

void add_change_operations(fuse_lowlevel_ops& operations) {
  operations.mknod = mknod;
  operations.mkdir = mkdir;
  operations.symlink = symlink;
  operations.unlink = unlink;
  operations.rmdir = rmdir;
  operations.rename = rename;
  operations.link = link;
  operations.create = create;
  add_tmpfile(operations);
}

}  // namespace layerfs::fuse
