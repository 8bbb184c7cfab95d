// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/notify.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "fs/base/sys_file.h"

namespace layerfs::fuse {
namespace {

// Newer than the oldest headers.
constexpr int kNotifyResend = 7;                   // FUSE_NOTIFY_RESEND
constexpr std::uint32_t kInitExtended = 1U << 30;  // FUSE_INIT_EXT: flags2 is there
constexpr std::uint32_t kHasResend = 1U << 7;      // FUSE_HAS_RESEND, in flags2

struct InvalidateInode {
  fuse_out_header header;
  fuse_notify_inval_inode_out body;
};

/// errno of a message to the kernel, 0 where it was taken. A message is taken whole or not at all.
int tell_kernel(int device, const void* message, std::size_t size) {
  ssize_t count = 0;
  int code = 0;
  do {
    count = ::write(device, message, size);
    code = count < 0 ? errno : 0;
  } while (code == EINTR);
  return code;
}

}  // namespace

bool kernel_resends(std::string_view init_message) {
  // The fields of struct fuse_init_in, whose second word of flags older headers lack: major, minor,
  // max_readahead, flags, flags2.
  std::array<std::uint32_t, 5> body{};
  if (init_message.size() < sizeof(fuse_in_header) + sizeof body) return false;
  std::memcpy(body.data(), init_message.data() + sizeof(fuse_in_header), sizeof body);
  return (body[3] & kInitExtended) != 0 && (body[4] & kHasResend) != 0;
}

Result<void> ask_to_resend(int device) {
  const fuse_out_header message{.len = sizeof message, .error = kNotifyResend, .unique = 0};
  if (int code = tell_kernel(device, &message, sizeof message); code != 0)
    return system_error(code, "have requests sent again");
  return {};
}

bool kernel_holds(int device, tree::Ino ino) {
  InvalidateInode message{};
  message.header = {.len = sizeof message, .error = FUSE_NOTIFY_INVAL_INODE, .unique = 0};
  message.body.ino = to_number(ino);
  message.body.off = -1;  // no pages
  return tell_kernel(device, &message, sizeof message) != ENOENT;
}

Result<Fd> clone_device(int device) {
  LAYERFS_ASSIGN(Fd clone, open_file("/dev/fuse", O_RDWR));
  auto of = static_cast<std::uint32_t>(device);
  if (::ioctl(clone.get(), FUSE_DEV_IOC_CLONE, &of) != 0) return system_error(errno, "clone", "/dev/fuse");
  return clone;
}

Result<Fd> duplicate(int fd) {
  Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!copy) return system_error(errno, "dup");
  return copy;
}

}  // namespace layerfs::fuse
