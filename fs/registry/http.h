// SPDX-License-Identifier: Apache-2.0
// HttpClient: requests over libcurl, one at a time on each of a few lanes. A lane is a multi handle with one transfer:
// whoever reads a body drives it, so that bytes go from the socket into the reader's own buffer, and a reader that is
// slow slows the sender by TCP's window and nothing is gathered here.
//
//   HttpClient ── idle lanes ──> HttpStream (head, then read() to the end) ──> back among the idle
//
// (1) Any thread may send; a stream is its caller's, one thread at a time.
// (2) A lane keeps its connections, so the next request to the same host reuses one (HTTP/1.1 keep-alive or HTTP/2).
//     Idle lanes are at most kMaxIdleLanes.
// (3) Authorization is sent to the host (with its port) of the request's URL alone. A redirect elsewhere goes without
//     it and without the client's certificate, and stays so if it comes back. From https to http: refused.
// (4) Memory of a stream: kBufferSize twice, and the head, at most kMaxHead.
// (5) Who waits asks `check` at least every kCheckPeriod.
// (6) The bytes of a body are the caller's, are not copied, and stay until the stream is gone. They are sent once.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fs/base/result.h"

namespace layerfs::registry {

inline constexpr std::size_t kMaxIdleLanes = 8;
inline constexpr std::size_t kBufferSize = std::size_t{256} << 10;
inline constexpr std::size_t kMaxHead = std::size_t{256} << 10;
inline constexpr std::size_t kMaxHeaders = 1000;
inline constexpr int kMaxRedirects = 10;
inline constexpr std::chrono::milliseconds kCheckPeriod{100};

/// What a host is trusted by, and knows us by (containers-certs.d(5)).
struct TlsFiles {
  std::vector<std::string> authorities;  ///< PEM files, besides the system's
  std::string certificate;
  std::string key;
};

struct HttpRequest {
  std::string method = "GET";
  std::string url;
  std::vector<std::string> headers;      ///< "Name: value"
  std::optional<std::string_view> body;  ///< (6)
  std::string authorization;             ///< value of the header, "" for none (3)
  TlsFiles tls;
  bool verify_tls = true;
  bool takes_encodings = false;  ///< a document: what is sent with gzip and the like is decoded
  bool is_work = false;          ///< the server may have to work before it answers: work_patience
};

struct HttpHead {
  int status = 0;
  std::vector<std::pair<std::string, std::string>> headers;  ///< names in lower case
  /// The first of that name; nullptr: none.
  const std::string* find(std::string_view name) const;
  std::vector<std::string> all(std::string_view name) const;
};

struct HttpOptions {
  std::chrono::milliseconds connect_patience{30'000};
  std::chrono::milliseconds stall_patience{60'000};  ///< without one byte
  std::chrono::milliseconds work_patience{900'000};  ///< the same, until an answer to `is_work`
  /// Asked while waiting, from the waiting thread; an error ends the waiting. May be null.
  std::function<Result<void>()> check;
};

/// Errors that another try may mend: the connection was cut or stood still.
bool is_transient(const Error& error);

class HttpLane;
class HttpClient;

class HttpStream {
 public:
  HttpStream(HttpClient& client, std::unique_ptr<HttpLane> lane);
  HttpStream(HttpStream&&) noexcept;
  HttpStream& operator=(HttpStream&&) noexcept;
  ~HttpStream();

  const HttpHead& head() const;
  /// Of the answer: the last one of the redirects.
  const std::string& url() const;
  /// Some bytes of the body; 0 at its end. `stop`: ends the waiting with ECANCELED once it is true; may be null.
  /// Errors: ECONNRESET (cut), ETIMEDOUT (stands still), those of `check`.
  Result<std::size_t> read(std::span<std::byte> buffer, const std::atomic<bool>* stop = nullptr);
  /// The whole body. Errors: kInvalid where it is longer than `limit`.
  Result<std::string> read_all(std::size_t limit);

 private:
  friend class HttpClient;
  HttpClient* client_;
  std::unique_ptr<HttpLane> lane_;
};

class HttpClient {
 public:
  /// Errors: kUnsupported where there is no libcurl.
  static Result<std::unique_ptr<HttpClient>> make(HttpOptions options);
  ~HttpClient();

  /// Sends, follows redirects (301 to 303 of GET and HEAD alone), and returns when the head of the answer is there,
  /// whatever its status. Errors: kSystem naming the host (ECONNREFUSED, EHOSTUNREACH, ETIMEDOUT, ECONNRESET), kInvalid for a
  /// redirect that is refused, an answer that is no HTTP, a certificate that is not trusted.
  Result<HttpStream> send(const HttpRequest& request, const std::atomic<bool>* stop = nullptr);

  /// `relative` as seen from `base`. Errors: kInvalid.
  Result<std::string> resolve_url(const std::string& base, const std::string& relative) const;
  /// Seconds since 1970 of an HTTP date; nullopt: none.
  std::optional<std::int64_t> parse_date(const std::string& text) const;
  const HttpOptions& options() const { return options_; }

 private:
  friend class HttpStream;
  struct Shared;
  HttpClient(HttpOptions options, std::unique_ptr<Shared> shared);
  Result<std::unique_ptr<HttpLane>> take_lane(const std::string& origin);
  void give_back(std::unique_ptr<HttpLane> lane);

  const HttpOptions options_;
  std::unique_ptr<Shared> shared_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<HttpLane>> idle_;  ///< guarded by mutex_
};

/// "https://host:port" of a URL, in lower case, with the port always; "" where it is none of http and https.
std::string url_origin(std::string_view url);
/// Letters, digits and "-._~" stay, all else is %XX.
std::string url_encode(std::string_view text);

}  // namespace layerfs::registry
