// SPDX-License-Identifier: Apache-2.0
// ControlServer: the server's end of the control socket (control.h), one thread.
//
// (1) Only the mount's own user and root are listened to (SO_PEERCRED), whatever the directory's mode.
// (2) A freeze lasts as long as its connection: closing it, also by dying, thaws. Where this end closes it,
//     it does so before the first change goes on, so that check_frozen() never says yes after one.
// (3) The thread never touches the mount.
// (4) The thread never waits for a client: of one that does not read one answer is kept, and no request is
//     looked at until that is read.
#pragma once

#include <atomic>
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
  /// From when the mount with this connection is gone nobody freezes it any more: a request that waits for a
  /// client that does nothing would hold up the server's end. Call once. Errors: EMFILE.
  Result<void> watch_connection(int device);
  /// Ends the thread, thaws and removes the socket.
  ~ControlServer();
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

 private:
  struct Connection {
    Fd socket;
    std::string input;
    std::string output;  // what the client has not read yet
    bool freezes = false;
  };
  ControlServer(std::string directory, unionfs::UnionFs& fs, std::function<std::string()> stats);
  Result<void> listen();
  void wake();
  void run();
  void serve_once();
  void accept_one();
  /// Each is false where the connection is over.
  bool serve(Connection& connection, short events);
  bool read_from(Connection& connection);
  static bool write_to(Connection& connection);
  /// Answers the whole lines of `input` until an answer waits to be read.
  bool answer_lines(Connection& connection);
  void end_freezes();
  void end_all();
  /// Closes the connection, and thaws where it held a freeze.
  void end(Connection& connection);
  /// Waits a moment for the workers to have taken what is on its way, such as the pages that a syncfs(2)
  /// before the freeze has sent: of FUSE the kernel does not wait for them.
  void let_pages_arrive() const;
  std::string answer_to(Connection& connection, std::string_view request);

  std::string directory_;
  unionfs::UnionFs& fs_;
  std::function<std::string()> stats_;
  Fd directory_fd_;
  Fd listener_;
  Fd wake_;  // eventfd: readable once the destructor runs, or there is a connection to watch
  std::atomic<bool> stopping_ = false;
  Fd device_;  // set before `watched_`, which the thread reads
  std::atomic<int> watched_{-1};
  std::vector<Connection> connections_;
  std::thread thread_;
};

}  // namespace layerfs::mount
