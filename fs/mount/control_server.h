// SPDX-License-Identifier: Apache-2.0
// ControlServer: the server's end of the control socket (control.h), one thread.
//
// (1) Only the mount's own user and root are listened to (SO_PEERCRED), whatever the directory's mode.
// (2) A freeze lasts as long as its connection: closing it, also by dying, thaws.
// (3) The thread never touches the mount.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "fs/base/fd.h"
#include "fs/base/result.h"
#include "fs/union/union_fs.h"

namespace layerfs::mount {

class ControlServer {
 public:
  /// Listens at `directory`/control; one that a dead server left is replaced. Requires: the upper's lock.
  static Result<std::unique_ptr<ControlServer>> start(const std::string& directory, unionfs::UnionFs& fs,
                                                      std::function<std::string()> stats);
  /// Ends the thread, thaws and removes the socket.
  ~ControlServer();
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

 private:
  struct Connection {
    Fd socket;
    std::string input;
    bool freezes = false;
  };
  ControlServer(std::string directory, unionfs::UnionFs& fs, std::function<std::string()> stats);
  Result<void> listen();
  void run();
  void serve_once();
  void accept_one();
  /// False where the connection is over.
  bool read_from(Connection& connection);
  std::string answer_to(Connection& connection, std::string_view request);

  std::string directory_;
  unionfs::UnionFs& fs_;
  std::function<std::string()> stats_;
  Fd directory_fd_;
  Fd listener_;
  Fd stop_;  // eventfd: readable once the destructor runs
  bool stopping_ = false;
  std::vector<Connection> connections_;
  std::thread thread_;
};

}  // namespace layerfs::mount
