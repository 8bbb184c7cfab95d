// SPDX-License-Identifier: Apache-2.0
#include "fs/mount/control_server.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>

#include "fs/base/bytes.h"
#include "fs/base/log.h"
#include "fs/base/sys_file.h"
#include "fs/mount/control_address.h"

namespace layerfs::mount {
namespace {

constexpr std::size_t kMaxConnections = 16;
constexpr std::size_t kMaxRequest = 256;
/// A page that was sent is taken and written within this time, and the next is sent.
constexpr std::chrono::milliseconds kQuiet{20};
constexpr std::chrono::milliseconds kMostWaiting{2000};

bool peer_is_trusted(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  return peer.uid == ::geteuid() || peer.uid == 0;
}

}  // namespace

ControlServer::ControlServer(std::string directory, unionfs::UnionFs& fs, std::function<std::string()> stats)
    : directory_(std::move(directory)), fs_(fs), stats_(std::move(stats)) {}

Result<std::unique_ptr<ControlServer>> ControlServer::start(const std::string& directory,
                                                            unionfs::UnionFs& fs,
                                                            std::function<std::string()> stats) {
  std::unique_ptr<ControlServer> server(new ControlServer(directory, fs, std::move(stats)));
  LAYERFS_TRY(server->listen());
  // The signals of the process are not this thread's.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  server->thread_ = std::thread([raw = server.get()] { raw->run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return server;
}

Result<void> ControlServer::listen() {
  LAYERFS_ASSIGN(directory_fd_, open_file(directory_, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  listener_ = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener_) return system_error(errno, "socket");
  if (auto gone = unlink_at(directory_fd_.get(), kControlName, 0); !gone && gone.error().code != ENOENT)
    return std::unexpected(gone.error());
  ControlAddress address(directory_fd_.get());
  if (::bind(listener_.get(), address.get(), address.size()) != 0)
    return system_error(errno, "bind control socket", directory_);
  if (::listen(listener_.get(), kMaxConnections) != 0) return system_error(errno, "listen", directory_);
  wake_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_) return system_error(errno, "eventfd");
  return {};
}

ControlServer::~ControlServer() {
  if (thread_.joinable()) {
    stopping_ = true;
    wake();
    thread_.join();
  }
  if (directory_fd_ && listener_)
    if (auto gone = unlink_at(directory_fd_.get(), kControlName, 0); !gone && gone.error().code != ENOENT)
      log_warning("{}", gone.error().message());
}

void ControlServer::wake() {
  std::uint64_t one = 1;
  if (auto told = write_full(wake_.get(), std::as_bytes(std::span(&one, 1))); !told)
    log_error("{}", told.error().message());
}

void ControlServer::run() {
  while (!stopping_) {
    try {
      serve_once();
    } catch (const std::exception& exception) {
      // Nobody may think that the mount is frozen when nobody would thaw it.
      log_error("control socket: {}", exception.what());
      end_all();
    }
  }
  end_all();
}

void ControlServer::serve_once() {
  // Of the connection only its error is waited for; a descriptor below zero is not looked at (poll(2)).
  bool freezes = std::ranges::any_of(connections_, &Connection::freezes);
  std::vector<pollfd> waits{{.fd = wake_.get(), .events = POLLIN, .revents = 0},
                            {.fd = listener_.get(), .events = POLLIN, .revents = 0},
                            {.fd = freezes ? watched_.load() : -1, .events = 0, .revents = 0}};
  const std::size_t first = waits.size();
  for (const Connection& connection : connections_)
    waits.push_back({.fd = connection.socket.get(),
                     .events = static_cast<short>(connection.output.empty() ? POLLIN : POLLOUT),
                     .revents = 0});
  if (::poll(waits.data(), waits.size(), -1) < 0) return;
  if (waits[0].revents != 0) {
    std::uint64_t count = 0;
    if (::read(wake_.get(), &count, sizeof count) < 0 && errno != EAGAIN)
      log_warning("read eventfd: {}", errno_text(errno));
    return;
  }
  // Backwards, so that removing one leaves the positions of those still to come.
  for (std::size_t i = connections_.size(); i-- > 0;) {
    if (waits[first + i].revents == 0 || serve(connections_[i], waits[first + i].revents)) continue;
    end(connections_[i]);
    connections_.erase(connections_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  if (waits[1].revents != 0) accept_one();
  if (waits[2].revents != 0) end_freezes();
}

void ControlServer::end_freezes() {
  std::erase_if(connections_, [&](Connection& connection) {
    if (!connection.freezes) return false;
    end(connection);
    return true;
  });
}

void ControlServer::end_all() {
  for (Connection& connection : connections_) end(connection);
  connections_.clear();
}

void ControlServer::end(Connection& connection) {
  connection.socket.reset();
  if (connection.freezes) fs_.thaw();
}

void ControlServer::let_pages_arrive() const {
  using Clock = std::chrono::steady_clock;
  pollfd connection{.fd = watched_, .events = POLLIN, .revents = 0};
  if (connection.fd < 0) return;
  const auto end = Clock::now() + kMostWaiting;  // others may go on changing the mount all the time
  for (auto quiet_since = Clock::now(); Clock::now() < end;) {
    bool waits = ::poll(&connection, 1, 0) > 0;
    if (waits && (connection.revents & POLLERR) != 0) return;  // the mount is gone
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (waits)
      quiet_since = Clock::now();
    else if (Clock::now() - quiet_since >= kQuiet)
      return;
  }
}

Result<void> ControlServer::watch_connection(int device) {
  device_ = Fd(::fcntl(device, F_DUPFD_CLOEXEC, 0));
  if (!device_) return system_error(errno, "duplicate the connection");
  watched_ = device_.get();
  wake();  // a client that froze already is from now on waited for with it
  return {};
}

void ControlServer::accept_one() {
  Fd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!socket || connections_.size() >= kMaxConnections || !peer_is_trusted(socket.get())) return;
  connections_.push_back({.socket = std::move(socket), .input = {}, .output = {}, .freezes = false});
}

bool ControlServer::serve(Connection& connection, short events) {
  if (connection.output.empty()) return read_from(connection) && answer_lines(connection);
  // Its end is seen though nothing is read from it.
  if ((events & (POLLERR | POLLHUP)) != 0) return false;
  return write_to(connection) && answer_lines(connection);
}

bool ControlServer::read_from(Connection& connection) {
  std::array<char, 128> buffer{};
  ssize_t count = ::recv(connection.socket.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (count < 0) return errno == EAGAIN || errno == EINTR;
  if (count == 0) return false;
  connection.input.append(buffer.data(), static_cast<std::size_t>(count));
  return true;
}

bool ControlServer::write_to(Connection& connection) {
  ssize_t count = ::send(connection.socket.get(), connection.output.data(), connection.output.size(),
                         MSG_NOSIGNAL | MSG_DONTWAIT);
  if (count < 0) return errno == EAGAIN || errno == EINTR;
  connection.output.erase(0, static_cast<std::size_t>(count));
  return true;
}

bool ControlServer::answer_lines(Connection& connection) {
  for (std::size_t end = 0;
       connection.output.empty() && (end = connection.input.find('\n')) != std::string::npos;) {
    connection.output = answer_to(connection, std::string_view(connection.input).substr(0, end)) + '\n';
    connection.input.erase(0, end + 1);
    if (!write_to(connection)) return false;
  }
  // While an answer waits nothing more is read, so the limit is one of lines without an end.
  return connection.input.size() <= kMaxRequest;
}

std::string ControlServer::answer_to(Connection& connection, std::string_view request) {
  if (request == "stats") return stats_();
  if (request == "freeze") {
    if (connection.freezes) return "error frozen by this connection already";
    let_pages_arrive();
    auto frozen = fs_.freeze();
    if (!frozen) return "error " + frozen.error().message();
    connection.freezes = true;
    return "ok";
  }
  return "error unknown request";
}

}  // namespace layerfs::mount
