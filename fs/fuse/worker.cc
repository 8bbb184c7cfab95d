// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/worker.h"

#include <linux/fuse.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "fs/base/check.h"

namespace layerfs::fuse {
namespace {

constexpr std::size_t kPage = 4096;
constexpr int kPopulateWrite = 23;  // MADV_POPULATE_WRITE (madvise(2)), which older headers lack
/// FUSE_UNIQUE_RESEND (Linux 6.9), which older headers lack.
constexpr std::uint64_t kResent = std::uint64_t{1} << 63;
thread_local Worker* this_worker = nullptr;

std::size_t whole_pages(std::size_t size) { return (size + kPage - 1) / kPage * kPage; }

std::byte* allocate_pages(std::size_t size) {
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(kPage, whole_pages(size)));
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

/// The operation's own structure behind the header, or zeros where the message is too short for it.
template <class T>
T body_of(std::span<const std::byte> message) {
  T body{};
  if (message.size() >= sizeof(fuse_in_header) + sizeof body)
    std::memcpy(&body, message.data() + sizeof(fuse_in_header), sizeof body);
  return body;
}

}  // namespace

RequestDetails read_details(std::span<const std::byte> message, bool extended_setxattr) {
  RequestDetails details;
  if (message.size() < sizeof(fuse_in_header)) return details;
  fuse_in_header header;
  std::memcpy(&header, message.data(), sizeof header);
  details.unique = header.unique & ~kResent;
  details.resent = (header.unique & kResent) != 0;
  details.caller = header.pid;
  switch (header.opcode) {
    case FUSE_WRITE: details.write_flags = body_of<fuse_write_in>(message).write_flags; break;
    case FUSE_SETATTR: details.setattr_valid = body_of<fuse_setattr_in>(message).valid; break;
    case FUSE_SETXATTR:
      if (extended_setxattr) details.setxattr_flags = body_of<fuse_setxattr_in>(message).setxattr_flags;
      break;
    case FUSE_FSYNC:
    case FUSE_FSYNCDIR:
    case FUSE_FALLOCATE:
    case FUSE_COPY_FILE_RANGE: details.may_wait_for_disk = true; break;
    default: break;
  }
  return details;
}

void Worker::Free::operator()(std::byte* memory) const { std::free(memory); }

Worker::Worker(std::size_t message_size, int processes)
    : caller_cpu(processes),
      processes_(processes),
      message_(allocate_pages(message_size)),
      message_size_(message_size) {
  LAYERFS_CHECK(this_worker == nullptr);
  this_worker = this;
}

Worker::Worker(Ring& ring, int processes) : caller_cpu(-1), processes_(processes), ring_(&ring) {
  LAYERFS_CHECK(this_worker == nullptr);
  this_worker = this;
}

void Worker::touch_message_buffer() {
  // At once where the kernel can (Linux 5.14), else by a fault for each page.
  if (::madvise(message_.get(), whole_pages(message_size_), kPopulateWrite) != 0)
    std::memset(message_.get(), 0, message_size_);
}

Worker::~Worker() { this_worker = nullptr; }

std::span<std::byte> Worker::reply_buffer(std::size_t size) {
  if (ring_ != nullptr && size <= ring_->reply_room().size()) return ring_->reply_room().first(size);
  if (size > reply_size_) {
    reply_.reset();  // the old bytes are not wanted: free them before there is a second buffer
    reply_size_ = 0;
    reply_.reset(allocate_pages(size));
    reply_size_ = size;
  }
  return {reply_.get(), size};
}

Worker& current_worker() {
  LAYERFS_CHECK(this_worker != nullptr);
  return *this_worker;
}

Worker* find_current_worker() { return this_worker; }

}  // namespace layerfs::fuse
