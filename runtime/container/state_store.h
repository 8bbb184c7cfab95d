// SPDX-License-Identifier: Apache-2.0
// The state of OCI containers: one directory each below --root. STATE.md has the files, who writes them and
// when.
//
// (1) state.json is replaced by rename: a reader sees the old one or the new one.
// (2) A change of state holds the container's lock (flock on `lock`) from reading it to writing it.
// (3) A pid counts only together with its start time.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fs/base/fd.h"
#include "fs/base/result.h"

namespace layerfs::container {

enum class Status : std::uint8_t { kCreating, kCreated, kRunning, kPaused, kStopped };
std::string_view to_text(Status status);

struct ContainerState {
  std::string id;
  std::string oci_version;
  std::string bundle;  ///< absolute
  std::string rootfs;
  pid_t pid = 0;       ///< 0: the init is not made yet
  bool ready = false;  ///< the init waits for start, or is past it
  std::uint64_t start_time = 0;
  std::int64_t created_at = 0;  ///< seconds since 1970
  std::vector<std::string> cgroups;
  std::string scope;  ///< systemd's unit that `cgroups` is the group of; empty: made by ourselves
  std::vector<std::string> resctrl;  ///< directories that are the container's own, in the order of removing
  /// Without a mount namespace of the container's: the mount of the caller's that its root was on, and is on
  /// again once what it mounted is gone. 0: it has one.
  std::uint64_t callers_mount = 0;
  std::string callers_root;  ///< the path of the root there, without links
  std::map<std::string, std::string> annotations;
  std::uint32_t owner_uid = 0;
};

class StateStore {
 public:
  /// $XDG_RUNTIME_DIR/layerfs-oci for an ordinary user and the root of a user namespace, where there is that
  /// variable; else /run/layerfs-oci for root, and a directory of the user's in /tmp.
  static std::string default_root();
  /// At the default place the directory is used only where it is the caller's own (find_own_dir()): anybody
  /// may make one in /tmp, and what is in it (a container's hooks) would be run as the caller. One that
  /// --root names is the caller's choice.
  explicit StateStore(std::string root) : root_(std::move(root)), is_default_(root_ == default_root()) {}

  /// A container's directory with its lock held. Its end takes the lock off, also where a process that was
  /// forked meanwhile (an init that waits for start) still has the descriptor.
  struct Locked {
    Locked(std::string where, Fd held) : directory(std::move(where)), lock(std::move(held)) {}
    Locked(Locked&&) = default;
    Locked& operator=(Locked&&) = delete;
    ~Locked() { unlock(); }
    /// Before its end. Idempotent.
    void unlock();
    std::string directory;
    Fd lock;
  };
  /// Makes the directory. Errors: EEXIST; kInvalid for a name that is no container id.
  Result<Locked> create(const std::string& id) const;
  /// Errors: ENOENT naming the container.
  Result<Locked> lock(const std::string& id) const;
  /// Somebody is changing the container right now.
  bool is_locked(const std::string& id) const;
  Result<ContainerState> read(const std::string& id) const;
  Result<void> write(const ContainerState& state) const;
  Result<void> remove(const std::string& id) const;
  Result<std::vector<std::string>> list() const;
  std::string directory(const std::string& id) const;
  /// Where remove() moves it before it takes it apart; '~' is no character of an id.
  std::string removed_directory(const std::string& id) const;
  /// Where the container's own $NOTIFY_SOCKET is, if it has one (notify_socket.h).
  std::string notify_directory(const std::string& id) const;
  /// The fifo that `start` writes to: there from create to start.
  std::string start_fifo(const std::string& id) const;

 private:
  Result<void> check_root() const;

  std::string root_;
  bool is_default_;
};

/// What the container is now: from its state, its process and its fifo.
Result<Status> find_status(const StateStore& store, const ContainerState& state);
/// The JSON of `state` and of hooks (runtime-spec, runtime.md, "State").
std::string state_json(const ContainerState& state, Status status);
/// The container process state that goes with a seccomp listener (runtime-spec, config-linux.md, "The
/// Container Process State"); `pid` is that of the process which is filtered.
std::string process_state_json(const ContainerState& state, Status status, pid_t pid,
                               const std::string& metadata);
/// Errors: kInvalid. A name of letters, digits and "_+-.", which is no "." or "..".
Result<void> check_container_id(const std::string& id);

}  // namespace layerfs::container
