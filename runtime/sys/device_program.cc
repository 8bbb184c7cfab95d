// SPDX-License-Identifier: Apache-2.0
#include "runtime/sys/device_program.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <span>

#include "fs/base/fd.h"
#include "fs/base/scope_exit.h"
#include "fs/base/sys_file.h"

namespace layerfs::sys {

namespace {

constexpr std::size_t kMostPrograms = 64;  // that one group can have (BPF_CGROUP_MAX_PROGS)
constexpr int kTries = 20;                 // while others attach and detach, too

/// Returns what bpf(2) does: a descriptor, or 0.
Result<int> call_bpf(bpf_cmd command, bpf_attr& attributes, std::string_view what) {
  long done = ::syscall(SYS_bpf, command, &attributes, sizeof attributes);
  if (done < 0) return system_error(errno, what);
  return static_cast<int>(done);
}

std::uint64_t address_of(const void* memory) { return reinterpret_cast<std::uintptr_t>(memory); }

Result<Fd> load_once(const std::vector<bpf_insn>& program) {
  bpf_attr attributes{};
  attributes.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
  attributes.insns = address_of(program.data());
  attributes.insn_cnt = static_cast<std::uint32_t>(program.size());
  attributes.license = address_of("Apache-2.0");
  LAYERFS_ASSIGN(int fd, call_bpf(BPF_PROG_LOAD, attributes, "load device program"));
  return Fd(fd);
}

/// Before Linux 5.11 programs count as locked memory, which a container's own limit may leave no room for.
Result<Fd> load(const std::vector<bpf_insn>& program) {
  auto loaded = load_once(program);
  if (loaded || loaded.error().code != EPERM) return loaded;
  rlimit before{};
  constexpr rlimit kNone{RLIM_INFINITY, RLIM_INFINITY};
  if (::getrlimit(RLIMIT_MEMLOCK, &before) != 0 || ::setrlimit(RLIMIT_MEMLOCK, &kNone) != 0) return loaded;
  ScopeExit restore([&] { ::setrlimit(RLIMIT_MEMLOCK, &before); });  // the container inherits it
  return load_once(program);
}

/// Programs of devices that are attached to the group itself.
Result<std::vector<Fd>> attached_programs(int group) {
  std::array<std::uint32_t, kMostPrograms> ids{};
  bpf_attr attributes{};
  attributes.query.target_fd = static_cast<std::uint32_t>(group);
  attributes.query.attach_type = BPF_CGROUP_DEVICE;
  attributes.query.prog_ids = address_of(ids.data());
  attributes.query.prog_cnt = ids.size();
  LAYERFS_TRY(call_bpf(BPF_PROG_QUERY, attributes, "list device programs"));
  std::vector<Fd> list;
  for (std::uint32_t id : std::span(ids).first(attributes.query.prog_cnt)) {
    bpf_attr one{};
    one.prog_id = id;
    auto fd = call_bpf(BPF_PROG_GET_FD_BY_ID, one, "open device program");
    if (!fd && fd.error().code == ENOENT) continue;  // somebody has just detached it
    if (!fd) return std::unexpected(fd.error());
    list.emplace_back(*fd);
  }
  return list;
}

/// `replaced`: a program whose place it takes (Linux 5.6), or -1.
Result<void> attach(int group, int program, int replaced) {
  bpf_attr attributes{};
  attributes.target_fd = static_cast<std::uint32_t>(group);
  attributes.attach_bpf_fd = static_cast<std::uint32_t>(program);
  attributes.attach_type = BPF_CGROUP_DEVICE;
  // Beside those of other groups: what is above or below may have rules of its own, and all of them must
  // allow.
  attributes.attach_flags = BPF_F_ALLOW_MULTI;
  if (replaced >= 0) {
    attributes.attach_flags |= BPF_F_REPLACE;
    attributes.replace_bpf_fd = static_cast<std::uint32_t>(replaced);
  }
  LAYERFS_TRY(call_bpf(BPF_PROG_ATTACH, attributes, "attach device program"));
  return {};
}

Result<void> detach(int group, int program) {
  bpf_attr attributes{};
  attributes.target_fd = static_cast<std::uint32_t>(group);
  attributes.attach_bpf_fd = static_cast<std::uint32_t>(program);
  attributes.attach_type = BPF_CGROUP_DEVICE;
  auto done = call_bpf(BPF_PROG_DETACH, attributes, "detach device program");
  if (!done && done.error().code != ENOENT) return std::unexpected(done.error());
  return {};
}

}  // namespace

Result<void> set_device_program(const std::string& directory, const std::vector<bpf_insn>& program) {
  LAYERFS_ASSIGN(Fd group, open_file(directory, O_RDONLY | O_DIRECTORY));
  LAYERFS_ASSIGN(Fd loaded, load(program));
  bool may_replace = true;
  for (int i = 0;; ++i) {
    LAYERFS_ASSIGN(auto before, attached_programs(group.get()));
    bool replaces = may_replace && before.size() == 1;
    auto attached = attach(group.get(), loaded.get(), replaces ? before.front().get() : -1);
    if (!attached && replaces && i < kTries) {
      if (attached.error().code == EINVAL) may_replace = false;  // before Linux 5.6
      if (attached.error().code == EINVAL || attached.error().code == ENOENT)
        continue;  // or it has just gone
    }
    LAYERFS_TRY(attached);
    // Both decide for a moment, so what is forbidden before and after is forbidden all the time.
    if (!replaces)
      for (const auto& old : before) LAYERFS_TRY(detach(group.get(), old.get()));
    return {};
  }
}

}  // namespace layerfs::sys
