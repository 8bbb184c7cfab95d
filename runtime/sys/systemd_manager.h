// SPDX-License-Identifier: Apache-2.0
// systemd over D-Bus (org.freedesktop.systemd1(5)): transient scopes, by sd-bus.
//
// (1) libsystemd is loaded by the first connect(): it and what it needs take longer to load than a container
//     takes to start, and most containers do without.
// (2) Every call and every job is waited for with a bound.
// (3) Requires a caller that stays one process: a connection is not usable in a child.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "fs/base/result.h"

namespace layerfs::sys {

/// b, i, u, x, t, s, as, ay.
using UnitValue = std::variant<bool, std::int32_t, std::uint32_t, std::int64_t, std::uint64_t, std::string,
                               std::vector<std::string>, std::vector<std::uint8_t>>;
struct UnitProperty {
  std::string name;
  UnitValue value;
};

/// Where a manager listens.
struct ManagerAddress {
  std::string text;     ///< "unix:path=/run/systemd/private" (D-Bus specification, "Server Addresses")
  bool is_bus = false;  ///< a bus with others on it, not the manager itself
};
/// "unix:path=PATH", with what has a meaning in an address escaped.
std::string unix_address(std::string_view path);

/// Whether this build has sd-bus. Without, connect() is an error that says so.
bool has_systemd_support();

class SystemdManager {
 public:
  /// The first of `addresses` where somebody answers. Errors: kUnsupported: no systemd runs, with each
  /// address and what was wrong with it; this build or this machine has no libsystemd.
  static Result<SystemdManager> connect(const std::vector<ManagerAddress>& addresses);
  SystemdManager(SystemdManager&&) noexcept;
  SystemdManager& operator=(SystemdManager&&) = delete;
  ~SystemdManager();

  /// Makes the scope `unit` with `pid` in it; it is there, and the process in it, at the return. What failed
  /// before under this name is forgotten first. Errors: EEXIST; what systemd says.
  Result<void> start_scope(const std::string& unit, const std::vector<UnitProperty>& properties, pid_t pid);
  /// Until the unit goes: these are no files of an administrator.
  Result<void> set_properties(const std::string& unit, const std::vector<UnitProperty>& properties);
  /// Moves a process into a unit with Delegate=.
  Result<void> attach_process(const std::string& unit, pid_t pid);
  /// Ends the unit and forgets how it ended. One that is not there is success.
  Result<void> stop_unit(const std::string& unit);

 private:
  struct Connection;
  explicit SystemdManager(std::unique_ptr<Connection> connection);
  std::unique_ptr<Connection> connection_;
};

}  // namespace layerfs::sys
