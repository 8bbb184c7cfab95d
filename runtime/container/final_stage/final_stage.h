// SPDX-License-Identifier: Apache-2.0
// The final stage: a small free-standing program that a container's init becomes before it becomes the
// container's own program. It lives in a sealed memfd, so that /proc/PID/exe of whatever runs in the
// container's namespaces never is the runtime's binary on the host (CVE-2019-5736): neither while it waits
// for `start`, nor where the container's program is /proc/self/exe, nor for the life of a container whose
// first process it stays (kStayAsInit).
//
// It gets a StageHeader and what its offsets point at, in a second memfd whose number is its argument. The
// order in which it drops privileges, and why, is at the head of main.cc.
//
// (1) It has no libc: what it does is system calls, so that it needs some 10 KB and starts in no time.
// (2) Offsets are from the header's first byte; strings end with a NUL. The runtime wrote them: they are
//     trusted.
#pragma once

#include <cstdint>

namespace layerfs::container::stage {

inline constexpr std::uint32_t kMagic = 0x4c465331;  // "LFS1"

enum Flag : std::uint32_t {
  kStayAsInit = 1,  ///< be the init: the program is a child, whose exit status is passed on
  kSetGroups = 2,   ///< setgroups(2) is allowed here
  kSetCapabilities = 4,
  kNoNewPrivileges = 8,
  kTerminal = 16,  ///< descriptor 0 becomes the controlling terminal of a new session (with kStayAsInit)
  kChangeDirectory = 32,  ///< `cwd` could not be entered as root: enter it as the user
  kDieWithParent = 64,    ///< SIGKILL when the creator dies
  kReportReady = 128,     ///< send kReady before waiting for start
};

struct StageHeader {
  std::uint32_t magic;
  std::uint32_t size;  ///< of everything
  std::uint32_t flags;
  std::int32_t sync_fd;
  std::int32_t start_fd;   ///< a byte is read from it before the program starts; -1: none
  std::uint32_t keep_fds;  ///< descriptors below this number are the program's
  std::uint32_t uid;
  std::uint32_t gid;
  std::uint32_t umask;
  std::uint32_t group_count;
  std::uint32_t groups;  ///< offset of uint32_t[group_count]
  std::uint32_t last_capability;
  std::uint64_t bounding;
  std::uint64_t effective;
  std::uint64_t permitted;
  std::uint64_t inheritable;
  std::uint64_t ambient;
  std::uint32_t seccomp_count;  ///< instructions; 0: no filter
  std::uint32_t seccomp;        ///< offset of sock_filter[seccomp_count]
  std::uint32_t seccomp_flags;
  std::int32_t listener_socket;  ///< gets the filter's listener; -1: it has none
  std::uint32_t listener_state;  ///< offset of the text that goes with it
  std::uint32_t listener_state_size;
  std::uint32_t path;  ///< offset of the program's path
  std::uint32_t cwd;
  std::uint32_t argument_count;
  std::uint32_t arguments;  ///< offset of uint32_t[argument_count], each the offset of a string
  std::uint32_t environment_count;
  std::uint32_t environment;
  std::int32_t proc_fd;    ///< /proc of the runtime, for the two below; -1: neither is there
  std::uint32_t apparmor;  ///< offset of the text for attr/apparmor/exec; 0: none
  std::uint32_t selinux;   ///< offset of the text for attr/exec; 0: none
  std::uint32_t padding;
};

/// What it sends on `sync_fd`: the header of a message of SyncChannel.
struct StageMessage {
  std::uint32_t kind;  ///< MessageKind
  std::int32_t value;  ///< errno
};

}  // namespace layerfs::container::stage
