// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/stat.h>

#include "fs/fuse/adapter.h"
#include "fs/fuse/operations.h"

namespace layerfs::fuse {
namespace {

using unionfs::Ino;

/// ENOSYS, once: the kernel opens files itself from then on and keeps their pages.
void open(fuse_req_t req, fuse_ino_t, fuse_file_info*) { fuse_reply_err(req, ENOSYS); }

/// True where a change by `caller` may take set-id bits away: the kernel's copy of the mode is then stale,
/// and it does not ask again by itself before exec(2).
bool may_lose_set_id(Adapter& adapter, Ino ino) {
  // A server that died may have taken them away and not have said so.
  if (current_worker().details.resent) return true;
  auto node = adapter.fs.getattr(ino);
  return node && (node->mode & (S_ISUID | S_ISGID)) != 0;
}

void read(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset, fuse_file_info*) {
  answer(req, "read", [&](Adapter& adapter) {
    auto buffer = current_worker().reply_buffer(size);
    auto count = adapter.fs.read(Ino{ino}, static_cast<std::uint64_t>(offset), buffer);
    if (!count) return reply_failure(req, "read", count.error());
    fuse_reply_buf(req, reinterpret_cast<const char*>(buffer.data()), *count);
  });
}

void write(fuse_req_t req, fuse_ino_t ino, const char* data, std::size_t size, off_t offset,
           fuse_file_info*) {
  answer(req, "write", [&](Adapter& adapter) {
    unionfs::WriteFlags flags{.kill_suid_sgid =
                                  (current_worker().details.write_flags & FUSE_WRITE_KILL_SUIDGID) != 0};
    bool loses_set_id = flags.kill_suid_sgid && may_lose_set_id(adapter, Ino{ino});
    auto count = adapter.fs.write(Ino{ino}, static_cast<std::uint64_t>(offset),
                                  std::as_bytes(std::span(data, size)), flags, caller_of(req, adapter));
    if (loses_set_id) expire_attributes(adapter, Ino{ino});
    if (!count) return reply_failure(req, "write", count.error());
    fuse_reply_write(req, *count);
  });
}

void fsync(fuse_req_t req, fuse_ino_t ino, int data_only, fuse_file_info*) {
  answer(req, "fsync", [&](Adapter& adapter) {
    auto kind = data_only != 0 ? unionfs::FsyncKind::kDataOnly : unionfs::FsyncKind::kAll;
    reply_done(req, "fsync", adapter.fs.fsync(Ino{ino}, kind));
  });
}

void fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length, fuse_file_info*) {
  answer(req, "fallocate", [&](Adapter& adapter) {
    // Without a new size the kernel moves no number that late replies are refused by (attribute_readers.h).
    bool keeps_size = (mode & FALLOC_FL_KEEP_SIZE) != 0;
    bool loses_set_id = adapter.handles_killpriv && may_lose_set_id(adapter, Ino{ino});
    auto done = adapter.fs.fallocate(Ino{ino}, mode, static_cast<std::uint64_t>(offset),
                                     static_cast<std::uint64_t>(length), caller_of(req, adapter));
    if (loses_set_id || keeps_size) expire_attributes(adapter, Ino{ino});
    reply_done(req, "fallocate", done);
  });
}

void lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, fuse_file_info*) {
  answer(req, "lseek", [&](Adapter& adapter) {
    if (offset < 0) return static_cast<void>(fuse_reply_err(req, ENXIO));
    auto found = adapter.fs.lseek(Ino{ino}, static_cast<std::uint64_t>(offset), whence);
    if (!found) return reply_failure(req, "lseek", found.error());
    fuse_reply_lseek(req, static_cast<off_t>(*found));
  });
}

void copy_file_range(fuse_req_t req, fuse_ino_t in, off_t in_offset, fuse_file_info*, fuse_ino_t out,
                     off_t out_offset, fuse_file_info*, std::size_t length, int) {
  answer(req, "copy_file_range", [&](Adapter& adapter) {
    bool loses_set_id = adapter.handles_killpriv && may_lose_set_id(adapter, Ino{out});
    auto count =
        adapter.fs.copy_file_range(Ino{in}, static_cast<std::uint64_t>(in_offset), Ino{out},
                                   static_cast<std::uint64_t>(out_offset), length, caller_of(req, adapter));
    if (loses_set_id) expire_attributes(adapter, Ino{out});
    if (!count) return reply_failure(req, "copy_file_range", count.error());
    fuse_reply_write(req, *count);
  });
}

/// No ioctl is known here; ENOSYS would mean the same, but only to kernels that translate it.
void ioctl(fuse_req_t req, fuse_ino_t, unsigned, void*, fuse_file_info*, unsigned, const void*, std::size_t,
           std::size_t) {
  fuse_reply_err(req, ENOTTY);
}

}  // namespace

void add_file_operations(fuse_lowlevel_ops& operations) {
  operations.open = open;
  operations.read = read;
  operations.write = write;
  operations.fsync = fsync;
  operations.fallocate = fallocate;
  operations.lseek = lseek;
  operations.copy_file_range = copy_file_range;
  operations.ioctl = ioctl;
}

}  // namespace layerfs::fuse
