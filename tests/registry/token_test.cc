// SPDX-License-Identifier: Apache-2.0
// Tokens that end while a repository is in use.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "fs/base/fd.h"
#include "fs/registry/registry_client.h"
#include "tests/base/scratch_dir.h"

namespace layerfs::registry {
namespace {

/// A registry on loopback that takes each token for one request.
class OnceRegistry {
 public:
  OnceRegistry() : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* any = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(::bind(listener_.get(), any, size), 0);
    EXPECT_EQ(::listen(listener_.get(), 16), 0);
    EXPECT_EQ(::getsockname(listener_.get(), any, &size), 0);
    host_ = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    thread_ = std::thread([this] {
      for (;;) {
        Fd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        if (!client) break;
        clients_.emplace_back([this, socket = std::make_shared<Fd>(std::move(client))] { serve(*socket); });
      }
    });
  }
  ~OnceRegistry() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }
  OnceRegistry(const OnceRegistry&) = delete;
  OnceRegistry& operator=(const OnceRegistry&) = delete;

  const std::string& host() const { return host_; }
  int tokens() const {
    const std::lock_guard lock(mutex_);
    return tokens_;
  }

 private:
  void serve(const Fd& client) {
    std::string request;
    while (!request.contains("\r\n\r\n")) {
      std::array<char, 4096> buffer{};
      const ssize_t count = ::recv(client.get(), buffer.data(), buffer.size(), 0);
      if (count <= 0) return;
      request.append(buffer.data(), static_cast<std::size_t>(count));
      if (!request.starts_with("GET ")) return;  // TLS is asked for first
    }
    std::string body = "{}";
    std::string status = "200 OK";
    {
      const std::lock_guard lock(mutex_);
      if (request.starts_with("GET /token")) {
        body = R"({"token":"T)" + std::to_string(++tokens_) + R"(","expires_in":0})";
        is_used_ = false;
      } else if (!is_used_ &&
                 request.contains("Authorization: Bearer T" + std::to_string(tokens_) + "\r\n")) {
        is_used_ = true;
      } else {
        status = "401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"http://" + host_ + "/token\"";
      }
    }
    const std::string answer = "HTTP/1.1 " + status +
                               "\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) +
                               "\r\n\r\n" + body;
    (void)::send(client.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
  }

  Fd listener_;
  std::string host_;
  mutable std::mutex mutex_;
  int tokens_ = 0;        ///< guarded by mutex_
  bool is_used_ = false;  ///< guarded by mutex_: the latest token
  std::vector<std::jthread> clients_;
  std::thread thread_;
};

TEST(Token, AnotherOneIsFetchedWhereItHasEnded) {
  OnceRegistry server;
  ScratchDir scratch;
  AccessOptions options;
  options.verify_tls = false;
  options.shortest_token = std::chrono::seconds(0);  // each has ended when it comes
  options.config_paths.etc = scratch / "etc";
  options.config_paths.home = scratch / "home";
  options.config_paths.runtime_dir = scratch / "run";
  const auto registries = Registries::make(options);
  ASSERT_TRUE(registries) << registries.error().message();
  const auto repository =
      (*registries)->open({.reference = {.host = server.host(), .path = "test/image"}, .insecure = true});
  ASSERT_TRUE(repository) << repository.error().message();
  for (int request = 1; request <= 4; ++request) {
    const auto taken = (*repository)->check_access();
    ASSERT_TRUE(taken) << "request " << request << ": " << taken.error().message();
    EXPECT_EQ(server.tokens(), request);
  }
}

}  // namespace
}  // namespace layerfs::registry
