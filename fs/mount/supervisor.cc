// SPDX-License-Identifier: Apache-2.0
#include "fs/mount/supervisor.h"

#include <sys/wait.h>

#include <cerrno>
#include <thread>

#include "fs/base/log.h"
#include "fs/mount/keeper_link.h"
#include "fs/mount/server_process.h"

namespace layerfs::mount {

void Supervisor::started(pid_t server, Fd link) {
  server_ = server;
  link_ = std::move(link);
  died_ = false;
}

void Supervisor::hear() {
  auto told = hear_server(link_.get());
  if (!told || !*told) return link_.reset();
  rule_.ready(RestartRule::Clock::now());
  if ((*told)->device) held_ = std::move(**told);
}

Supervisor::End Supervisor::reap() {
  const pid_t server = std::exchange(server_, -1);
  while (::waitpid(server, &status_, 0) < 0) {
    if (errno == EINTR) continue;
    log_warning("wait for process {}: {}", server, errno_text(errno));
    status_ = -1;  // neither an exit nor a signal: it counts as dead
    break;
  }
  while (link_) hear();
  const bool exited = WIFEXITED(status_);
  if (exited && WEXITSTATUS(status_) == kServedExit) return End::kServed;
  if (exited && WEXITSTATUS(status_) == kServedUnwrittenExit) return End::kServedUnwritten;
  died_ = true;
  return End::kDied;
}

std::string Supervisor::how_it_ended() const {
  return WIFSIGNALED(status_) ? "was killed by signal " + std::to_string(WTERMSIG(status_))
                              : "ended with status " + std::to_string(WEXITSTATUS(status_));
}

void Supervisor::pause() const { std::this_thread::sleep_for(rule_.pause()); }

}  // namespace layerfs::mount
