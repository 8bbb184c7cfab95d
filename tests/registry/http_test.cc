// SPDX-License-Identifier: Apache-2.0
// How long a server is waited for.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "fs/base/fd.h"
#include "fs/base/sys_file.h"
#include "fs/registry/http.h"

namespace layerfs::registry {
namespace {

using std::chrono::milliseconds;

/// Of a connection to loopback, on a busy machine.
constexpr milliseconds kConnectPatience{5000};

/// On loopback: takes one request, and answers once it is let.
class SlowServer {
 public:
  SlowServer() : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* any = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(::bind(listener_.get(), any, size), 0);
    EXPECT_EQ(::listen(listener_.get(), 1), 0);
    EXPECT_EQ(::getsockname(listener_.get(), any, &size), 0);
    url_ = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port)) + "/";
    thread_ = std::thread([this] { serve(); });
  }
  ~SlowServer() {
    let_answer();
    ::shutdown(listener_.get(), SHUT_RDWR);  // where nobody came
    thread_.join();
  }
  SlowServer(const SlowServer&) = delete;
  SlowServer& operator=(const SlowServer&) = delete;

  const std::string& url() const { return url_; }
  void let_answer() {
    const std::lock_guard lock(mutex_);
    may_answer_ = true;
    changed_.notify_all();
  }

 private:
  void serve() {
    const Fd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!client) return;
    std::array<char, 4096> request{};
    if (::recv(client.get(), request.data(), request.size(), 0) <= 0) return;
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return may_answer_; });
    constexpr std::string_view kAnswer = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
    (void)::send(client.get(), kAnswer.data(), kAnswer.size(), MSG_NOSIGNAL);
  }

  Fd listener_;
  std::string url_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool may_answer_ = false;  ///< guarded by mutex_
  std::thread thread_;
};

std::unique_ptr<HttpClient> make_client(milliseconds work_patience,
                                        std::function<Result<void>()> check = {}) {
  HttpOptions options{.connect_patience = kConnectPatience,
                      .stall_patience = milliseconds(150),
                      .work_patience = work_patience,
                      .check = std::move(check)};
  auto client = HttpClient::make(std::move(options));
  EXPECT_TRUE(client) << client.error().message();
  return client ? std::move(*client) : nullptr;
}

TEST(HttpPatience, AServerThatSaysNothingIsGivenUp) {
  SlowServer server;
  const auto client = make_client(std::chrono::hours(1));
  ASSERT_TRUE(client);
  const auto answer = client->send({.method = "PUT", .url = server.url(), .body = ""});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ETIMEDOUT) << answer.error().message();
}

TEST(HttpPatience, AServerAtWorkIsWaitedForLonger) {
  SlowServer server;
  // It answers when another one would have been given up for long.
  const auto began = std::chrono::steady_clock::now();
  const auto client = make_client(std::chrono::hours(1), [&]() -> Result<void> {
    if (std::chrono::steady_clock::now() - began > kConnectPatience + milliseconds(3000)) server.let_answer();
    return {};
  });
  ASSERT_TRUE(client);
  const auto answer = client->send({.method = "PUT", .url = server.url(), .body = "", .is_work = true});
  ASSERT_TRUE(answer) << answer.error().message();
  EXPECT_EQ(answer->head().status, 201);
}

TEST(HttpPatience, AServerAtWorkIsNotWaitedForForever) {
  SlowServer server;
  const auto client = make_client(milliseconds(300));
  ASSERT_TRUE(client);
  const auto answer = client->send({.method = "PUT", .url = server.url(), .body = "", .is_work = true});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ETIMEDOUT) << answer.error().message();
}

}  // namespace
}  // namespace layerfs::registry
