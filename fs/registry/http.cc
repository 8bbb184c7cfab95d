// SPDX-License-Identifier: Apache-2.0
#include "fs/registry/http.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "fs/base/sys_file.h"
#include "fs/registry/curl_library.h"
#include "fs/registry/text.h"

namespace layerfs::registry {

namespace {

using Clock = std::chrono::steady_clock;

/// A connection that was closed at the other end is an error and no signal: OpenSSL writes by write(2). The signal is
/// for the thread that wrote, which takes it away again.
class PipeSignalGuard {
 public:
  PipeSignalGuard() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~PipeSignalGuard() {
    const timespec now{};
    if (!was_pending_)
      while (sigtimedwait(&pipe_, nullptr, &now) < 0 && errno == EINTR) {
      }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  PipeSignalGuard(const PipeSignalGuard&) = delete;
  PipeSignalGuard& operator=(const PipeSignalGuard&) = delete;

 private:
  sigset_t pipe_{};
  sigset_t before_{};
  bool was_pending_ = false;
};

bool is_loopback(std::string_view origin) {
  std::size_t begin = origin.find("://");
  if (begin == std::string_view::npos) return false;
  std::string_view host = origin.substr(begin + 3);
  return host.starts_with("localhost:") || host.starts_with("127.") || host.starts_with("[::1]");
}

/// The proxy to name to libcurl: it does not look at HTTP_PROXY in capitals (which Go's programs do), and Go's
/// programs ask loopback hosts themselves. nullopt: libcurl finds it in the environment.
std::optional<std::string> find_proxy(const std::string& origin) {
  if (is_loopback(origin)) return std::string();
  if (!origin.starts_with("http:") || std::getenv("http_proxy") != nullptr) return std::nullopt;
  const char* proxy = std::getenv("HTTP_PROXY");
  // A CGI program's HTTP_PROXY is a header that somebody sent.
  if (proxy == nullptr || std::getenv("REQUEST_METHOD") != nullptr) return std::nullopt;
  return std::string(proxy);
}

/// Errors of a transfer, as the rest of the program knows them.
Error transfer_error(CURLcode code, const char* text, const std::string& origin) {
  ErrorKind kind = ErrorKind::kSystem;
  int number = EIO;
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_OPERATION_TIMEDOUT:  // of connecting: the only time that libcurl keeps here
      number = EHOSTUNREACH;
      break;
    case CURLE_COULDNT_CONNECT: number = ECONNREFUSED; break;
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM: number = ECONNRESET; break;
    case CURLE_OUT_OF_MEMORY: number = ENOMEM; break;
    default:
      kind = ErrorKind::kInvalid;
      number = EPROTO;
      break;
  }
  return with_context(Error{kind, number, {}, text}, "ask", origin).error();
}

}  // namespace

bool is_transient(const Error& error) {
  return error.kind == ErrorKind::kSystem && (error.code == ECONNRESET || error.code == ETIMEDOUT);
}

std::string url_origin(std::string_view url) {
  std::size_t scheme_end = url.find("://");
  if (scheme_end == std::string_view::npos) return {};
  std::string scheme = to_lower(url.substr(0, scheme_end));
  if (scheme != "http" && scheme != "https") return {};
  std::string_view rest = url.substr(scheme_end + 3);
  rest = rest.substr(0, rest.find_first_of("/?#"));
  if (std::size_t user = rest.rfind('@'); user != std::string_view::npos) rest.remove_prefix(user + 1);
  std::string host = to_lower(rest);
  std::size_t bracket = host.rfind(']');
  std::size_t colon = host.rfind(':');
  bool has_port = colon != std::string::npos && (bracket == std::string::npos || colon > bracket);
  if (host.empty() || (has_port && colon == 0)) return {};
  if (!has_port) host += scheme == "https" ? ":443" : ":80";
  return scheme + "://" + host;
}

std::string url_encode(std::string_view text) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
  std::string encoded;
  for (char c : text) {
    if (kPlain.find(c) != std::string_view::npos)
      encoded += c;
    else
      encoded += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return encoded;
}

const std::string* HttpHead::find(std::string_view name) const {
  for (const auto& [key, value] : headers)
    if (key == name) return &value;
  return nullptr;
}

std::vector<std::string> HttpHead::all(std::string_view name) const {
  std::vector<std::string> values;
  for (const auto& [key, value] : headers)
    if (key == name) values.push_back(value);
  return values;
}

// ------------------------------------------------------------------------------- what lanes share

/// Names and TLS sessions, which libcurl lets threads share under locks; connections it does not.
struct HttpClient::Shared {
  explicit Shared(const CurlLibrary& library) : curl(library), handle(curl.curl_share_init()) {
    curl.curl_share_setopt(handle, CURLSHOPT_LOCKFUNC, &Shared::lock);
    curl.curl_share_setopt(handle, CURLSHOPT_UNLOCKFUNC, &Shared::unlock);
    curl.curl_share_setopt(handle, CURLSHOPT_USERDATA, this);
    curl.curl_share_setopt(handle, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS);
    curl.curl_share_setopt(handle, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
  }
  ~Shared() { curl.curl_share_cleanup(handle); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  static void lock(CURL*, curl_lock_data data, curl_lock_access, void* self) {
    static_cast<Shared*>(self)->mutexes[static_cast<std::size_t>(data)].lock();
  }
  static void unlock(CURL*, curl_lock_data data, void* self) {
    static_cast<Shared*>(self)->mutexes[static_cast<std::size_t>(data)].unlock();
  }

  const CurlLibrary& curl;
  CURLSH* handle;
  std::array<std::mutex, CURL_LOCK_DATA_LAST> mutexes;
};

// ------------------------------------------------------------------------------- one lane

class HttpLane {
 public:
  HttpLane(const CurlLibrary& curl, CURLSH* share, const HttpOptions& options)
      : curl_(curl),
        share_(share),
        options_(options),
        multi_(curl.curl_multi_init()),
        easy_(curl.curl_easy_init()) {}
  ~HttpLane() {
    end();
    PipeSignalGuard guard;
    curl_.curl_easy_cleanup(easy_);
    curl_.curl_multi_cleanup(multi_);
  }
  HttpLane(const HttpLane&) = delete;
  HttpLane& operator=(const HttpLane&) = delete;

  /// Sends one request, without following redirects; returns when the head is there.
  Result<void> begin(const HttpRequest& request, const std::atomic<bool>* stop) {
    end();
    LAYERFS_TRY(prepare(request));
    curl_.curl_multi_add_handle(multi_, easy_);
    added_ = true;
    into_ = {};
    auto last = Clock::now();
    const auto body = static_cast<curl_off_t>(request.body ? request.body->size() : 0);
    for (curl_off_t sent = 0; !head_done_ && !done_;) {
      LAYERFS_TRY(step());
      if (head_done_ || done_) break;
      // A long body on a slow way: what goes out is a sign of life too.
      if (curl_off_t now = bytes_sent(); now > sent) {
        sent = now;
        last = Clock::now();
      }
      // It is at work once it has all of the request.
      const bool is_at_work = request.is_work && bytes_sent() >= body;
      const auto patience = is_at_work ? options_.work_patience : options_.stall_patience;
      LAYERFS_TRY(wait(last, options_.connect_patience + patience, stop));
    }
    if (!problem_.empty()) return invalid_error("ask", origin_, problem_);
    if (!head_done_ && done_) return std::unexpected(result_error());
    return {};
  }

  Result<std::size_t> read(std::span<std::byte> buffer, const std::atomic<bool>* stop) {
    if (std::size_t size = std::min(buffer.size(), spill_.size() - spill_at_); size > 0) {
      std::memcpy(buffer.data(), spill_.data() + spill_at_, size);
      spill_at_ += size;
      if (spill_at_ == spill_.size()) {
        spill_.clear();
        spill_at_ = 0;
      }
      return size;
    }
    into_ = buffer;
    got_ = 0;
    auto last = Clock::now();
    while (got_ == 0 && !done_) {
      LAYERFS_TRY(step());
      if (got_ > 0 || done_) break;
      LAYERFS_TRY(wait(last, options_.stall_patience, stop));
    }
    into_ = {};
    if (got_ > 0) return got_;
    if (result_ != CURLE_OK) return std::unexpected(result_error());
    return std::size_t{0};
  }

  /// Takes the transfer off. A body that was not read to its end costs its connection.
  void end() {
    if (!added_) return;
    PipeSignalGuard guard;
    curl_.curl_multi_remove_handle(multi_, easy_);
    added_ = false;
    curl_.curl_slist_free_all(headers_);
    headers_ = nullptr;
  }

  const HttpHead& head() const { return head_; }
  const std::string& url() const { return url_; }
  const std::string& origin() const { return origin_; }
  bool is_done() const { return done_; }

 private:
  template <class T>
  void set(CURLoption option, T value) {
    curl_.curl_easy_setopt(easy_, option, value);
  }

  Result<void> prepare(const HttpRequest& request) {
    url_ = request.url;
    origin_ = url_origin(url_);
    if (origin_.empty()) return invalid_error("ask", url_, "neither http nor https");
    head_ = {};
    head_bytes_ = 0;
    head_done_ = done_ = paused_ = false;
    begun_ = 0;
    result_ = CURLE_OK;
    problem_.clear();
    spill_.clear();
    spill_at_ = 0;
    error_[0] = '\0';
    curl_.curl_easy_reset(easy_);  // connections are the multi handle's and stay
    set(CURLOPT_URL, url_.c_str());
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_SHARE, share_);
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_FOLLOWLOCATION, 0L);
    set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    set(CURLOPT_USERAGENT, "layerfs/" LAYERFS_VERSION);
    set(CURLOPT_NETRC, long{CURL_NETRC_IGNORED});
    set(CURLOPT_ERRORBUFFER, error_.data());
    set(CURLOPT_BUFFERSIZE, static_cast<long>(kBufferSize));
    set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options_.connect_patience.count()));
    set(CURLOPT_TCP_KEEPALIVE, 1L);
    set(CURLOPT_HEADERFUNCTION, &HttpLane::on_header);
    set(CURLOPT_HEADERDATA, this);
    set(CURLOPT_WRITEFUNCTION, &HttpLane::on_body);
    set(CURLOPT_WRITEDATA, this);
    if (auto proxy = find_proxy(origin_)) set(CURLOPT_PROXY, proxy->c_str());
    if (request.takes_encodings) set(CURLOPT_ACCEPT_ENCODING, "");
    LAYERFS_TRY(set_tls(request));
    set_method(request);
    for (const auto& header : request.headers) headers_ = curl_.curl_slist_append(headers_, header.c_str());
    if (!request.authorization.empty())
      headers_ = curl_.curl_slist_append(headers_, ("Authorization: " + request.authorization).c_str());
    headers_ = curl_.curl_slist_append(headers_, "Expect:");  // bodies are small, or go in pieces
    set(CURLOPT_HTTPHEADER, headers_);
    return {};
  }

  void set_method(const HttpRequest& request) {
    if (request.body) {
      set(CURLOPT_POST, 1L);
      set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body->size()));
      set(CURLOPT_POSTFIELDS, request.body->empty() ? "" : request.body->data());
      set(CURLOPT_UPLOAD_BUFFERSIZE, static_cast<long>(kBufferSize));
      // libcurl sends a request again by itself where a connection that was used before ends without an answer.
      if (!request.body->empty()) {
        set(CURLOPT_PREREQFUNCTION, &HttpLane::on_request);
        set(CURLOPT_PREREQDATA, this);
      }
    }
    if (request.method == "HEAD")
      set(CURLOPT_NOBODY, 1L);
    else
      set(CURLOPT_CUSTOMREQUEST, request.method.c_str());
  }

  Result<void> set_tls(const HttpRequest& request) {
    set(CURLOPT_SSLVERSION, long{CURL_SSLVERSION_TLSv1_2});
    if (!request.verify_tls) {
      set(CURLOPT_SSL_VERIFYPEER, 0L);
      set(CURLOPT_SSL_VERIFYHOST, 0L);
    }
    if (const char* file = std::getenv("SSL_CERT_FILE")) set(CURLOPT_CAINFO, file);
    if (const char* dir = std::getenv("SSL_CERT_DIR")) set(CURLOPT_CAPATH, dir);
    if (!request.tls.authorities.empty()) {
      constexpr std::size_t kMaxCertificates = std::size_t{4} << 20;
      std::string all;
      for (const auto& path : request.tls.authorities) {
        LAYERFS_ASSIGN(std::string text, read_file(path, kMaxCertificates));
        all += text + '\n';
      }
      // The system's own authorities stay: libcurl reads their directory (CAPATH) beside this.
      curl_blob blob{all.data(), all.size(), CURL_BLOB_COPY};
      set(CURLOPT_CAINFO_BLOB, &blob);
    }
    if (!request.tls.certificate.empty()) {
      set(CURLOPT_SSLCERT, request.tls.certificate.c_str());
      set(CURLOPT_SSLKEY, request.tls.key.c_str());
    }
    return {};
  }

  /// Lets libcurl do what can be done without waiting.
  Result<void> step() {
    PipeSignalGuard guard;
    if (paused_) {
      paused_ = false;
      curl_.curl_easy_pause(easy_, CURLPAUSE_CONT);
    }
    int running = 0;
    if (CURLMcode code = curl_.curl_multi_perform(multi_, &running); code != CURLM_OK)
      return invalid_error("ask", origin_, curl_.curl_multi_strerror(code));
    int left = 0;
    while (CURLMsg* message = curl_.curl_multi_info_read(multi_, &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      done_ = true;
      result_ = message->data.result;
    }
    return {};
  }

  curl_off_t bytes_sent() const {
    curl_off_t sent = 0;
    curl_.curl_easy_getinfo(easy_, CURLINFO_SIZE_UPLOAD_T, &sent);
    return sent;
  }

  Result<void> wait(Clock::time_point since, std::chrono::milliseconds patience,
                    const std::atomic<bool>* stop) {
    if (stop != nullptr && stop->load(std::memory_order_relaxed)) return errno_error(ECANCELED);
    if (options_.check) LAYERFS_TRY(options_.check());
    if (Clock::now() - since > patience) {
      auto error = system_error(ETIMEDOUT, "ask", origin_);
      error.error().reason = fmt::format("nothing came for {} s", patience.count() / 1000);
      return error;
    }
    curl_.curl_multi_poll(multi_, nullptr, 0, static_cast<int>(kCheckPeriod.count()), nullptr);
    return {};
  }

  Error result_error() const {
    if (!problem_.empty()) return invalid_error("ask", origin_, problem_).error();
    if (begun_ > 1) return transfer_error(CURLE_SEND_ERROR, "the connection was cut", origin_);
    const char* text = error_[0] != '\0' ? error_.data() : curl_.curl_easy_strerror(result_);
    // A proxy that refuses the way is no connection that was cut.
    long proxy_status = 0;
    curl_.curl_easy_getinfo(easy_, CURLINFO_HTTP_CONNECTCODE, &proxy_status);
    bool is_hung_up = std::string_view(text).starts_with("Proxy CONNECT");  // without a word
    if (proxy_status >= 300 || is_hung_up) return invalid_error("ask", origin_, text).error();
    return transfer_error(result_, text, origin_);
  }

  static int on_request(void* self, char*, char*, int, int) {
    return ++static_cast<HttpLane*>(self)->begun_ == 1 ? CURL_PREREQFUNC_OK : CURL_PREREQFUNC_ABORT;
  }

  static std::size_t on_header(char* data, std::size_t, std::size_t size, void* self) {
    return static_cast<HttpLane*>(self)->add_header({data, size}) ? size : 0;
  }

  bool add_header(std::string_view line) {
    if (head_done_) return true;  // a trailer
    head_bytes_ += line.size();
    if (head_bytes_ > kMaxHead || head_.headers.size() >= kMaxHeaders) {
      problem_ =
          fmt::format("its headers are longer than {} KiB, or more than {}", kMaxHead >> 10, kMaxHeaders);
      return false;
    }
    while (line.ends_with('\n') || line.ends_with('\r')) line.remove_suffix(1);
    if (line.starts_with("HTTP/")) {
      head_ = {};
      std::size_t space = line.find(' ');
      if (space != std::string_view::npos)
        head_.status = std::atoi(std::string(line.substr(space + 1, 3)).c_str());
      return true;
    }
    if (line.empty()) {
      head_done_ = head_.status >= 200;
      return true;
    }
    std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) return true;
    std::string_view value = line.substr(colon + 1);
    while (value.starts_with(' ') || value.starts_with('\t')) value.remove_prefix(1);
    while (value.ends_with(' ') || value.ends_with('\t')) value.remove_suffix(1);
    head_.headers.emplace_back(to_lower(line.substr(0, colon)), value);
    return true;
  }

  static std::size_t on_body(char* data, std::size_t, std::size_t size, void* self) {
    return static_cast<HttpLane*>(self)->add_body({data, size});
  }

  std::size_t add_body(std::string_view bytes) {
    std::size_t room = into_.size() - got_;
    // Nobody reads, or his buffer is full: libcurl keeps these bytes and asks again.
    if (into_.empty() || room == 0 || !spill_.empty()) {
      paused_ = true;
      return CURL_WRITEFUNC_PAUSE;
    }
    std::size_t size = std::min(room, bytes.size());
    std::memcpy(into_.data() + got_, bytes.data(), size);
    got_ += size;
    spill_.append(bytes.substr(size));
    return bytes.size();
  }

  const CurlLibrary& curl_;
  CURLSH* share_;
  const HttpOptions& options_;
  CURLM* multi_;
  CURL* easy_;
  curl_slist* headers_ = nullptr;
  bool added_ = false;

  std::string url_;
  std::string origin_;
  HttpHead head_;
  std::size_t head_bytes_ = 0;
  bool head_done_ = false;
  bool done_ = false;
  bool paused_ = false;
  int begun_ = 0;  ///< times that a body was to be sent
  CURLcode result_ = CURLE_OK;
  std::string problem_;  ///< why a callback ended the transfer
  std::array<char, CURL_ERROR_SIZE> error_{};

  std::span<std::byte> into_;  ///< the reader's buffer, while he reads
  std::size_t got_ = 0;
  std::string spill_;  ///< what came with the last bytes and found no room
  std::size_t spill_at_ = 0;
};

// ------------------------------------------------------------------------------- streams and the client

HttpStream::HttpStream(HttpClient& client, std::unique_ptr<HttpLane> lane)
    : client_(&client), lane_(std::move(lane)) {}
HttpStream::HttpStream(HttpStream&&) noexcept = default;
HttpStream& HttpStream::operator=(HttpStream&& other) noexcept {
  if (lane_) client_->give_back(std::move(lane_));
  client_ = other.client_;
  lane_ = std::move(other.lane_);
  return *this;
}
HttpStream::~HttpStream() {
  if (lane_) client_->give_back(std::move(lane_));
}

const HttpHead& HttpStream::head() const { return lane_->head(); }
const std::string& HttpStream::url() const { return lane_->url(); }

Result<std::size_t> HttpStream::read(std::span<std::byte> buffer, const std::atomic<bool>* stop) {
  return lane_->read(buffer, stop);
}

Result<std::string> HttpStream::read_all(std::size_t limit) {
  std::string text;
  std::vector<std::byte> buffer(std::size_t{64} << 10);
  for (;;) {
    LAYERFS_ASSIGN(std::size_t got, read(buffer));
    if (got == 0) return text;
    if (got > limit - text.size())
      return invalid_error("ask", url_origin(url()),
                           fmt::format("its answer is longer than {} bytes", limit));
    text.append(reinterpret_cast<const char*>(buffer.data()), got);
  }
}

HttpClient::HttpClient(HttpOptions options, std::unique_ptr<Shared> shared)
    : options_(std::move(options)), shared_(std::move(shared)) {}
HttpClient::~HttpClient() = default;

Result<std::unique_ptr<HttpClient>> HttpClient::make(HttpOptions options) {
  LAYERFS_ASSIGN(const CurlLibrary* curl, load_curl());
  return std::unique_ptr<HttpClient>(new HttpClient(std::move(options), std::make_unique<Shared>(*curl)));
}

Result<std::unique_ptr<HttpLane>> HttpClient::take_lane(const std::string& origin) {
  std::lock_guard lock(mutex_);
  auto same = std::ranges::find_if(idle_, [&](const auto& lane) { return lane->origin() == origin; });
  if (same == idle_.end() && idle_.size() < kMaxIdleLanes)
    return std::make_unique<HttpLane>(shared_->curl, shared_->handle, options_);
  if (same == idle_.end()) same = idle_.begin();
  auto lane = std::move(*same);
  idle_.erase(same);
  return lane;
}

void HttpClient::give_back(std::unique_ptr<HttpLane> lane) {
  lane->end();
  std::lock_guard lock(mutex_);
  if (idle_.size() < kMaxIdleLanes) idle_.push_back(std::move(lane));
}

Result<HttpStream> HttpClient::send(const HttpRequest& request, const std::atomic<bool>* stop) {
  HttpRequest next = request;
  const std::string origin = url_origin(request.url);
  for (int redirects = 0;; ++redirects) {
    LAYERFS_ASSIGN(auto lane, take_lane(url_origin(next.url)));
    HttpStream stream(*this, std::move(lane));
    LAYERFS_TRY(stream.lane_->begin(next, stop));
    const HttpHead& head = stream.head();
    bool moves = head.status == 301 || head.status == 302 || head.status == 303 || head.status == 307 ||
                 head.status == 308;
    bool reads = request.method == "GET" || request.method == "HEAD";
    // 307 and 308 mean the same request elsewhere; the others would make a GET of a write.
    bool follows = reads || head.status == 307 || head.status == 308;
    const std::string* location = head.find("location");
    if (!moves || !follows || location == nullptr) return stream;
    if (redirects == kMaxRedirects)
      return invalid_error("ask", origin, fmt::format("more than {} redirects", kMaxRedirects));
    LAYERFS_ASSIGN(std::string there, resolve_url(next.url, *location));
    std::string there_origin = url_origin(there);
    if (there_origin.empty() || (next.url.starts_with("https:") && !there.starts_with("https:")))
      return invalid_error(
          "ask", origin,
          fmt::format("a redirect to '{}' is refused", there_origin.empty() ? there : there_origin));
    if (there_origin != origin) {
      next.authorization.clear();
      next.tls.certificate.clear();
      next.tls.key.clear();
    }
    next.url = std::move(there);
  }
}

Result<std::string> HttpClient::resolve_url(const std::string& base, const std::string& relative) const {
  const CurlLibrary& curl = shared_->curl;
  std::unique_ptr<CURLU, decltype(curl.curl_url_cleanup)> url(curl.curl_url(), curl.curl_url_cleanup);
  if (!url) return errno_error(ENOMEM);
  char* text = nullptr;
  if (curl.curl_url_set(url.get(), CURLUPART_URL, base.c_str(), 0) != CURLUE_OK ||
      curl.curl_url_set(url.get(), CURLUPART_URL, relative.c_str(), CURLU_URLENCODE) != CURLUE_OK ||
      curl.curl_url_get(url.get(), CURLUPART_URL, &text, 0) != CURLUE_OK)
    return invalid_error("location", relative, "no URL");
  std::string resolved(text);
  curl.curl_free(text);
  return resolved;
}

std::optional<std::int64_t> HttpClient::parse_date(const std::string& text) const {
  std::time_t seconds = shared_->curl.curl_getdate(text.c_str(), nullptr);
  if (seconds == -1) return std::nullopt;
  return seconds;
}

}  // namespace layerfs::registry
