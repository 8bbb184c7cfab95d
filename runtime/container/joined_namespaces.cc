// SPDX-License-Identifier: Apache-2.0
#include "runtime/container/joined_namespaces.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>

#include "fs/base/sys_file.h"
#include "runtime/spec/parse_spec.h"
#include "runtime/sys/syscalls.h"

namespace layerfs::container {

Result<Fd> open_namespace(const std::string& path) {
  LAYERFS_ASSIGN(Fd found, open_file(path, O_PATH));
  sys::LinuxSyscalls calls;
  LAYERFS_ASSIGN(sys::FsFacts facts, calls.fs_facts(found.get()));
  if (facts.type != NSFS_MAGIC) return invalid_error("open", path, "is no namespace");
  // What was looked at, and not what may be at its path by now.
  return open_file("/proc/self/fd/" + std::to_string(found.get()), O_RDONLY);
}

Result<void> drop_callers_namespaces(spec::ContainerSpec& spec) {
  bool dropped = false;
  std::vector<spec::Namespace> kept;
  for (const auto& entry : spec.namespaces) {
    if (entry.path.empty()) {
      kept.push_back(entry);
      continue;
    }
    auto fd = open_namespace(entry.path);
    if (!fd) return with_context(fd.error(), "linux.namespaces", spec::to_text(entry.kind));
    LAYERFS_ASSIGN(struct stat theirs, stat_fd(fd->get()));
    std::string own = "/proc/self/ns/" + std::string(spec::proc_name(entry.kind));
    LAYERFS_ASSIGN(auto ours, find_stat_at(AT_FDCWD, own, 0));
    if (!ours || ours->st_ino != theirs.st_ino || ours->st_dev != theirs.st_dev) {
      kept.push_back(entry);
      continue;
    }
    if (entry.kind == spec::NamespaceKind::kMount)
      return invalid_error("field", "linux.namespaces",
                           "names the caller's own mount namespace: '" + entry.path + "'");
    dropped = true;
  }
  spec.namespaces = std::move(kept);
  if (!dropped) return {};
  return spec::validate(spec);
}

}  // namespace layerfs::container
