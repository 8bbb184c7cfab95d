// SPDX-License-Identifier: Apache-2.0
// ControlAddress: the address of the control socket in an open directory. It goes through /proc/self/fd,
// because the 108 bytes of sun_path (unix(7)) are fewer than many stores' paths have.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

namespace layerfs::mount {

inline constexpr const char* kControlName = "control";

class ControlAddress {
 public:
  explicit ControlAddress(int directory);
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address_); }
  socklen_t size() const { return sizeof address_; }

 private:
  sockaddr_un address_{};
};

}  // namespace layerfs::mount
