// SPDX-License-Identifier: Apache-2.0
#include "fs/registry/registry_client.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <ctime>
#include <random>
#include <thread>

#include "fs/base/bytes.h"
#include "fs/base/log.h"
#include "fs/base/sha256.h"
#include "fs/registry/json.h"

namespace layerfs::registry {

namespace {

constexpr const char* kManifestTypes =
    "Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json";

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t value = 0;
  auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// Whether a token may stand in a header: no byte of it begins another one.
bool is_header_text(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c > ' ' && c < 0x7f; });
}

std::string basic(const Credentials& credentials) {
  return "Basic " + encode_base64(credentials.user + ':' + credentials.password);
}

/// The target of `<URL>; rel="next"`; "" where there is none.
std::string next_link(const HttpHead& head) {
  for (const auto& value : head.all("link")) {
    std::size_t open = value.find('<');
    std::size_t close = value.find('>', open);
    if (open == std::string::npos || close == std::string::npos) continue;
    std::string_view rest = std::string_view(value).substr(close);
    if (rest.find("rel=\"next\"") != std::string_view::npos ||
        rest.find("rel=next") != std::string_view::npos)
      return value.substr(open + 1, close - open - 1);
  }
  return {};
}

}  // namespace

bool is_retried(int status) { return status == 429 || (status >= 500 && status != 501 && status != 505); }

std::string registry_message(std::string_view body) {
  constexpr std::size_t kMost = 300;
  auto json = parse_json(body);
  if (!json) return {};
  std::string text;
  const Json* errors = find_member(*json, "errors");
  if (errors != nullptr && errors->is_array() && !errors->empty() && errors->front().is_object()) {
    text = text_or_none(errors->front(), "code");
    std::string message = text_or_none(errors->front(), "message");
    if (!message.empty()) text += (text.empty() ? "" : ": ") + message;
  } else {
    for (const char* key : {"details", "message", "error_description", "error"})
      if (text.empty()) text = text_or_none(*json, key);
  }
  return printable(text, kMost);
}

// ------------------------------------------------------------------------------- Registries

Result<std::unique_ptr<Registries>> Registries::make(AccessOptions options) {
  LAYERFS_ASSIGN(auto conf, read_registries_conf(options.config_paths));
  LAYERFS_ASSIGN(auto policy, read_policy(options.config_paths));
  LAYERFS_ASSIGN(auto http, HttpClient::make(options.http));
  return std::unique_ptr<Registries>(
      new Registries(std::move(options), std::move(conf), std::move(policy), std::move(http)));
}

Result<std::unique_ptr<Repository>> Registries::open(const Endpoint& endpoint, const RepositoryUse& use) {
  const std::string& host = endpoint.reference.host;
  std::optional<Credentials> credentials = options_.credentials;
  if (!credentials) {
    LAYERFS_ASSIGN(credentials, find_user_credentials(options_.config_paths, conf_, options_.auth_file, host,
                                                      endpoint.reference.path));
  }
  LAYERFS_ASSIGN(TlsFiles tls, find_certificates(options_.config_paths, host));
  return std::make_unique<Repository>(*this, endpoint, std::move(credentials), std::move(tls), use);
}

// ------------------------------------------------------------------------------- Repository: the way there

Repository::Repository(Registries& registries, Endpoint endpoint, std::optional<Credentials> credentials,
                       TlsFiles tls, const RepositoryUse& use)
    : registries_(registries),
      endpoint_(std::move(endpoint)),
      credentials_(std::move(credentials)),
      tls_(std::move(tls)),
      verify_tls_(registries.options_.verify_tls.value_or(!endpoint_.insecure)) {
  if (endpoint_.reference.path.empty()) return;  // of a login
  scopes_.push_back(fmt::format("repository:{}:pull{}", endpoint_.reference.path, use.pushes ? ",push" : ""));
  for (const auto& from : use.mounts_from) scopes_.push_back(fmt::format("repository:{}:pull", from));
}

std::string Repository::scopes() const {
  std::string text;
  for (const auto& scope : scopes_) text += (text.empty() ? "scope=" : "&scope=") + url_encode(scope);
  return text;
}

std::string Repository::base_url() const {
  return fmt::format("{}://{}/v2/", plain_http_ ? "http" : "https", serving_host(endpoint_.reference.host));
}

Result<void> Repository::pause(std::chrono::milliseconds delay, const std::atomic<bool>* stop) const {
  auto until = std::chrono::steady_clock::now() + delay;
  for (;;) {
    if (stop != nullptr && stop->load(std::memory_order_relaxed)) return errno_error(ECANCELED);
    if (const auto& check = registries_.http_->options().check) LAYERFS_TRY(check());
    auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
    if (left.count() <= 0) return {};
    std::this_thread::sleep_for(std::min(left, kCheckPeriod));
  }
}

std::chrono::milliseconds Repository::delay_before(int try_number, const HttpHead* head) const {
  const RetryPolicy& policy = registries_.options_.retry;
  if (head != nullptr)
    if (const std::string* after = head->find("retry-after")) {
      std::optional<std::int64_t> seconds;
      if (auto number = parse_number(*after))
        seconds = static_cast<std::int64_t>(std::min<std::uint64_t>(*number, 1U << 30));
      else if (auto date = registries_.http_->parse_date(*after))
        seconds = *date - static_cast<std::int64_t>(std::time(nullptr));
      if (seconds) {
        std::chrono::milliseconds delay{std::max<std::int64_t>(*seconds, 0) * 1000};
        return std::min(delay, policy.longest_delay);
      }
    }
  std::chrono::milliseconds delay = policy.first_delay * (1LL << std::min(try_number - 1, 20));
  // Between a half and one and a half times: many clients that failed together do not come back together.
  std::minstd_rand random(std::random_device{}());
  std::uniform_real_distribution<double> factor(0.5, 1.5);
  delay = std::chrono::milliseconds(
      static_cast<std::int64_t>(static_cast<double>(delay.count()) * factor(random)));
  return std::min(delay, policy.longest_delay);
}

Result<HttpStream> Repository::send_retrying(const HttpRequest& request, const std::atomic<bool>* stop) {
  const int tries = registries_.options_.retry.tries;
  for (int number = 1;; ++number) {
    auto stream = registries_.http_->send(request, stop);
    if (!stream && (!is_transient(stream.error()) || number >= tries)) return stream;
    if (stream && (!is_retried(stream->head().status) || number >= tries)) return stream;
    auto delay = delay_before(number, stream ? &stream->head() : nullptr);
    std::string why =
        stream ? fmt::format("HTTP status {}", stream->head().status) : stream.error().message();
    log_line(LogLevel::kInfo,
             fmt::format("{}: {}; again in {} ms", url_origin(request.url), why, delay.count()));
    stream = errno_error(ECONNRESET);  // its lane is free for the next try
    LAYERFS_TRY(pause(delay, stop));
  }
}

std::string Repository::current_authorization(TokenAge age) {
  std::lock_guard lock(mutex_);
  if (!token_ || (age == TokenAge::kFresh && token_->has_ended())) return {};
  return token_->authorization;
}

Result<HttpStream> Repository::ask(const Question& question) {
  HttpRequest request;
  request.method = question.method;
  request.headers = question.headers;
  request.body = question.body;
  request.verify_tls = verify_tls_;
  request.takes_encodings = question.takes_encodings;
  request.is_work = question.is_work;
  const bool is_whole = !url_origin(question.path).empty();
  for (bool renewed = false;;) {
    bool is_here = true;
    bool was_plain = false;
    {
      std::lock_guard lock(mutex_);
      was_plain = plain_http_;
      request.url = is_whole ? question.path : base_url() + question.path;
      is_here = url_origin(request.url) == url_origin(base_url());  // [2]
    }
    request.tls = tls_;
    if (!is_here) request.tls.certificate = request.tls.key = "";
    // The one that was just fetched is taken as it is: of a short one the server decides.
    request.authorization = is_here ? current_authorization(renewed ? TokenAge::kAny : TokenAge::kFresh) : "";
    auto stream = question.is_repeated ? send_retrying(request, question.stop)
                                       : registries_.http_->send(request, question.stop);
    if (!stream) {
      std::lock_guard lock(mutex_);
      bool is_ours = stream.error().code == EINTR || stream.error().code == ECANCELED;
      // Of threads that ask at once each finds out for itself.
      bool is_other_way = !was_plain && (plain_http_ || !scheme_known_);
      if (verify_tls_ || !is_other_way || is_ours || is_whole) return stream;
      plain_http_ = true;  // [3]
      continue;
    }
    if (is_here) {
      std::lock_guard lock(mutex_);
      scheme_known_ = true;
    }
    if (stream->head().status != 401 || renewed || !is_here || !question.is_worth_a_token) return stream;
    // A redirect's 401 says nothing about us here.
    if (url_origin(stream->url()) != url_origin(request.url)) return stream;
    LAYERFS_TRY(authenticate(stream->head(), request.authorization, question.stop));
    renewed = true;
  }
}

Result<std::string> Repository::location_of(const HttpStream& stream) const {
  const std::string* location = stream.head().find("location");
  std::string origin = url_origin(stream.url());
  if (location == nullptr) return invalid_error("upload to", origin, "the registry names no Location for it");
  LAYERFS_ASSIGN(std::string url, registries_.http_->resolve_url(stream.url(), *location));
  std::string there = url_origin(url);
  if (there.empty() || (origin.starts_with("https:") && !there.starts_with("https:")))
    return invalid_error("upload to", origin,
                         fmt::format("a Location at '{}' is refused", there.empty() ? url : there));
  return url;
}

// ------------------------------------------------------------------------------- Repository: who we are

Result<void> Repository::authenticate(const HttpHead& head, const std::string& rejected,
                                      const std::atomic<bool>* stop) {
  std::vector<Challenge> challenges;
  for (const auto& value : head.all("www-authenticate"))
    for (auto& challenge : parse_challenges(value))
      if (challenges.size() < kMaxChallenges) challenges.push_back(std::move(challenge));
  const std::lock_guard fetch_lock(fetch_mutex_);
  std::string base;
  {
    const std::lock_guard lock(mutex_);
    // Another thread was here. (A token that has ended was not sent, so that it is not the rejected one.)
    if (token_ && token_->authorization != rejected && !token_->has_ended()) return {};
    base = base_url();
  }
  const auto keep = [&](Token token) {
    const std::lock_guard lock(mutex_);
    token_ = std::move(token);
  };
  bool has_basic = false;
  for (const auto& challenge : challenges) {
    if (challenge.scheme == "bearer") {
      LAYERFS_ASSIGN(Token token, fetch_token(challenge, base, stop));
      keep(std::move(token));
      return {};
    }
    if (challenge.scheme != "basic") continue;
    has_basic = true;
    if (!credentials_ || !credentials_->identity_token.empty()) continue;
    // What was refused once is refused again.
    if (rejected == basic(*credentials_)) continue;
    keep({basic(*credentials_), std::chrono::steady_clock::time_point::max()});
    return {};
  }
  if (challenges.empty() || has_basic) return {};  // the 401 stands, with the registry's own words
  return unsupported_error("registry", endpoint_.reference.host,
                           fmt::format("it wants '{}' authentication; Bearer and Basic are known",
                                       printable(challenges.front().scheme, 40)));
}

Result<Repository::Token> Repository::fetch_token(const Challenge& challenge, const std::string& base,
                                                  const std::atomic<bool>* stop) {
  std::string realm(challenge.find("realm"));
  std::string origin = url_origin(realm);
  if (origin.empty()) return invalid_error("token server", realm, "no URL of http or https");
  if (base.starts_with("https:") && !origin.starts_with("https:"))
    return invalid_error("token server", origin,
                         "a registry of https names one of http: no credentials are sent");
  HttpRequest request;
  request.verify_tls = verify_tls_;
  // The token server's own certificates, where they are configured; the registry's where both are one host.
  std::string host = origin.substr(origin.find("://") + 3);
  LAYERFS_ASSIGN(request.tls, find_certificates(registries_.options_.config_paths, host));
  if (origin == url_origin(base)) request.tls = tls_;
  request.takes_encodings = true;
  std::string service(challenge.find("service"));
  std::string form;
  if (credentials_ && !credentials_->identity_token.empty()) {
    request.method = "POST";
    request.url = realm;
    request.headers.emplace_back("Content-Type: application/x-www-form-urlencoded");
    // Of several scopes one parameter is made: a form's repeated names are not read by every server.
    std::string scope;
    for (const auto& one : scopes_) scope += (scope.empty() ? "" : " ") + one;
    form = "grant_type=refresh_token&client_id=layerfs&scope=" + url_encode(scope) +
           "&refresh_token=" + url_encode(credentials_->identity_token);
    if (!service.empty()) form += "&service=" + url_encode(service);
    request.body = form;
  } else {
    std::string query = scopes();
    if (!service.empty()) query += (query.empty() ? "service=" : "&service=") + url_encode(service);
    if (credentials_) {
      query += (query.empty() ? "account=" : "&account=") + url_encode(credentials_->user);
      request.authorization = basic(*credentials_);
    }
    request.url = realm;
    if (!query.empty()) request.url += (realm.find('?') == std::string::npos ? '?' : '&') + query;
  }
  auto fetched = [&]() -> Result<Token> {
    LAYERFS_ASSIGN(HttpStream stream, send_retrying(request, stop));
    if (stream.head().status != 200) return std::unexpected(answer_error(stream, "token server", origin));
    LAYERFS_ASSIGN(std::string text, stream.read_all(kMaxTokenAnswer));
    auto json = parse_json(text);
    if (!json) return with_context(json.error(), "token server", origin);
    std::string token = text_or_none(*json, "token");
    if (token.empty()) token = text_or_none(*json, "access_token");
    if (token.empty()) return invalid_error("token server", origin, "its answer has no token");
    if (token.size() > kMaxToken || !is_header_text(token))
      return invalid_error("token server", origin,
                           "its token is longer than 64 KiB, or no text for a header");
    std::chrono::seconds lifetime = registries_.options_.shortest_token;
    if (const Json* expires = find_member(*json, "expires_in");
        expires != nullptr && expires->is_number_unsigned())
      lifetime = std::max(
          lifetime, std::chrono::seconds(std::min<std::uint64_t>(expires->get<std::uint64_t>(), 86'400)));
    return Token{"Bearer " + token, std::chrono::steady_clock::now() + lifetime};
  }();
  if (!fetched) return with_context(fetched.error(), "authenticate for", shown());
  return fetched;
}

Error Repository::answer_error(HttpStream& stream, std::string_view operation, std::string_view subject) {
  int status = stream.head().status;
  std::string said;
  if (auto body = stream.read_all(kMaxErrorBody)) said = registry_message(*body);
  std::string reason = fmt::format("HTTP status {}{}{}", status, said.empty() ? "" : ": ", said);
  int code = status == 404 ? ENOENT : status == 401 || status == 403 ? EACCES : EIO;
  if (status == 401 && !credentials_)
    reason += " (no credentials for it; `layerfs login`, --creds or --authfile gives some)";
  return with_context(Error{ErrorKind::kSystem, code, {}, std::move(reason)}, operation, subject).error();
}

// ------------------------------------------------------------------------------- Repository: what it has

Result<ManifestDocument> Repository::get_manifest(const std::string& version) {
  std::string shown_manifest =
      endpoint_.reference.name() + (version.starts_with("sha256:") ? '@' : ':') + version;
  std::string path = endpoint_.reference.path + "/manifests/" + version;
  const int tries = registries_.options_.retry.tries;
  for (int number = 1;; ++number) {
    LAYERFS_ASSIGN(HttpStream stream,
                   ask({.path = path, .headers = {kManifestTypes}, .takes_encodings = true}));
    if (stream.head().status != 200) return std::unexpected(answer_error(stream, "manifest", shown_manifest));
    ManifestDocument document;
    if (const std::string* type = stream.head().find("content-type"))
      document.media_type = type->substr(0, type->find_first_of("; "));
    auto bytes = stream.read_all(kMaxManifest);
    if (!bytes && is_transient(bytes.error()) && number < tries) {
      LAYERFS_TRY(pause(delay_before(number, nullptr), nullptr));
      continue;
    }
    if (!bytes) return with_context(bytes.error(), "manifest", shown_manifest);
    document.bytes = std::move(*bytes);
    document.digest = sha256(document.bytes);
    if (version.starts_with("sha256:") && document.digest.str() != version)
      return corrupt_error("verify manifest", shown_manifest, "its digest is " + document.digest.str());
    return document;
  }
}

Result<std::optional<Digest>> Repository::find_digest(const std::string& version) {
  std::string path = endpoint_.reference.path + "/manifests/" + version;
  LAYERFS_ASSIGN(HttpStream stream,
                 ask({.method = "HEAD", .path = path, .headers = {kManifestTypes}, .takes_encodings = true}));
  if (stream.head().status != 200)
    return std::unexpected(answer_error(stream, "manifest", endpoint_.reference.name() + ':' + version));
  const std::string* text = stream.head().find("docker-content-digest");
  if (text == nullptr) return std::nullopt;
  auto digest = parse_digest(*text);
  return digest ? std::optional(*digest) : std::nullopt;
}

Result<std::string> Repository::get_blob(const Digest& digest, std::uint64_t size, std::uint64_t limit) {
  if (size > limit) return invalid_error("blob", digest.str(), fmt::format("longer than {} bytes", limit));
  std::string bytes(static_cast<std::size_t>(size), '\0');
  auto reader = open_blob(digest, size, nullptr);
  std::size_t at = 0;
  std::byte beyond{};  // the end is asked for, too: a blob that is longer is an error
  for (;;) {
    auto room = std::as_writable_bytes(std::span(bytes)).subspan(at);
    LAYERFS_ASSIGN(std::size_t got, reader->read(room.empty() ? std::span(&beyond, 1) : room));
    if (got == 0) break;
    at += got;
  }
  if (Digest has = sha256(bytes); has != digest)
    return corrupt_error("verify blob", digest.str(), "its digest is " + has.str());
  return bytes;
}

std::unique_ptr<BlobReader> Repository::open_blob(const Digest& digest, std::uint64_t size,
                                                  const std::atomic<bool>* stop) {
  return std::make_unique<BlobReader>(*this, digest, size, stop);
}

Result<std::vector<std::string>> Repository::list_tags() {
  std::vector<std::string> tags;
  std::string path = endpoint_.reference.path + "/tags/list";
  for (std::size_t page = 0; page < kMaxPages; ++page) {
    LAYERFS_ASSIGN(HttpStream stream, ask({.path = path, .takes_encodings = true}));
    if (stream.head().status != 200) return std::unexpected(answer_error(stream, "tags", shown()));
    LAYERFS_ASSIGN(std::string text, stream.read_all(kMaxManifest));
    auto json = parse_json(text);
    if (!json) return with_context(json.error(), "tags", shown());
    if (const Json* list = find_member(*json, "tags"); list != nullptr && list->is_array())
      for (const auto& tag : *list)
        if (tag.is_string() && tags.size() < kMaxTags) tags.push_back(tag.get_ref<const std::string&>());
    if (tags.size() >= kMaxTags) break;
    std::string link = next_link(stream.head());
    if (link.empty()) return tags;
    LAYERFS_ASSIGN(std::string next, registries_.http_->resolve_url(stream.url(), link));
    std::lock_guard lock(mutex_);
    if (!next.starts_with(base_url()))
      return invalid_error("tags", shown(), "its next page is on another host: " + url_origin(next));
    path = next.substr(base_url().size());
  }
  return invalid_error("tags", shown(), fmt::format("more than {} tags, or {} pages", kMaxTags, kMaxPages));
}

// ------------------------------------------------------------------------------- Repository: what it gets

Result<bool> Repository::has_blob(const Digest& digest, std::uint64_t size, const std::atomic<bool>* stop) {
  std::string path = fmt::format("{}/blobs/{}", endpoint_.reference.path, digest.str());
  LAYERFS_ASSIGN(HttpStream stream, ask({.method = "HEAD", .path = path, .stop = stop}));
  if (stream.head().status == 404) return false;
  if (stream.head().status != 200) return std::unexpected(answer_error(stream, "blob", digest.str()));
  const std::string* text = stream.head().find("content-length");
  return text == nullptr || parse_number(*text).value_or(size) == size;
}

Result<bool> Repository::mount_blob(const Digest& digest, const std::string& from,
                                    const std::atomic<bool>* stop) {
  std::string path = fmt::format("{}/blobs/uploads/?mount={}&from={}", endpoint_.reference.path,
                                 url_encode(digest.str()), url_encode(from));
  LAYERFS_ASSIGN(HttpStream stream, ask({.method = "POST", .path = path, .body = "", .stop = stop}));
  if (stream.head().status == 201) return true;
  if (stream.head().status != 202) return false;
  // What it has begun instead nobody goes on with. That it cannot be taken back harms nobody: it runs out.
  auto url = location_of(stream);
  if (!url) return false;
  auto ended =
      ask({.method = "DELETE", .path = *url, .is_repeated = false, .is_worth_a_token = false, .stop = stop});
  if (!ended) log_line(LogLevel::kInfo, ended.error().message());
  return false;
}

Result<void> Repository::put_manifest(const std::string& version, std::string_view media_type,
                                      std::string_view bytes) {
  std::string shown_manifest =
      endpoint_.reference.name() + (version.starts_with("sha256:") ? '@' : ':') + version;
  std::string path = endpoint_.reference.path + "/manifests/" + version;
  LAYERFS_ASSIGN(HttpStream stream, ask({.method = "PUT",
                                         .path = path,
                                         .headers = {fmt::format("Content-Type: {}", media_type)},
                                         .body = bytes,
                                         .is_work = true}));
  int status = stream.head().status;
  if (status < 200 || status > 299)
    return std::unexpected(answer_error(stream, "put manifest", shown_manifest));
  const std::string* said = stream.head().find("docker-content-digest");
  if (std::string digest = sha256(bytes).str(); said != nullptr && *said != digest)
    return corrupt_error(
        "put manifest", shown_manifest,
        fmt::format("the registry calls it '{}' instead of {}", printable(*said, 100), digest));
  return {};
}

Result<void> Repository::check_access() {
  LAYERFS_ASSIGN(HttpStream stream, ask({.takes_encodings = true}));
  if (stream.head().status == 200) return {};
  return std::unexpected(answer_error(stream, "registry", endpoint_.reference.host));
}

// ------------------------------------------------------------------------------- BlobReader

Result<void> BlobReader::check_head(const HttpHead& head) {
  std::uint64_t expected = size_ - at_;
  std::uint64_t begins = at_;
  if (head.status == 206) {
    // "bytes A-B/TOTAL"; a range that is not the one that was asked for cannot be put behind what is there.
    const std::string* range = head.find("content-range");
    std::string wanted = fmt::format("bytes {}-{}", at_, size_ - 1);
    if (range == nullptr || !range->starts_with(wanted) ||
        (range->size() > wanted.size() && (*range)[wanted.size()] != '/'))
      return corrupt_error("blob", digest_.str(),
                           fmt::format("asked for '{}', the registry sends '{}'", wanted,
                                       range == nullptr ? "" : printable(*range, 100)));
  } else {
    expected = size_;
    begins = 0;
  }
  if (const std::string* text = head.find("content-length")) {
    auto length = parse_number(*text);
    if (length && *length != expected)
      return corrupt_error("verify blob", digest_.str(),
                           fmt::format("{} bytes instead of {}", *length, expected));
  }
  if (begins < at_) return skip(at_);
  return {};
}

/// A server without ranges begins anew; what is there already is not given twice.
Result<void> BlobReader::skip(std::uint64_t count) {
  std::vector<std::byte> buffer(kBufferSize);
  while (count > 0) {
    auto piece =
        std::span(buffer).first(static_cast<std::size_t>(std::min<std::uint64_t>(count, buffer.size())));
    LAYERFS_ASSIGN(std::size_t got, stream_->read(piece, stop_));
    if (got == 0) return errno_error(ECONNRESET);
    count -= got;
  }
  return {};
}

Result<void> BlobReader::open() {
  std::vector<std::string> headers;
  if (at_ > 0) {
    headers.push_back(fmt::format("Range: bytes={}-", at_));
    if (!etag_.empty()) headers.push_back("If-Range: " + etag_);
  }
  std::string path = fmt::format("{}/blobs/{}", repository_.endpoint_.reference.path, digest_.str());
  auto stream = repository_.ask({.path = path, .headers = std::move(headers), .stop = stop_});
  if (!stream) return std::unexpected(stream.error());
  stream_ = std::move(*stream);
  const HttpHead& head = stream_->head();
  if (head.status == 416)
    return corrupt_error("verify blob", digest_.str(),
                         fmt::format("it ends after {} bytes instead of {}", at_, size_));
  if (head.status != 200 && (head.status != 206 || at_ == 0))
    return std::unexpected(repository_.answer_error(*stream_, "blob", digest_.str()));
  // A weak one does not promise the same bytes (RFC 9110, section 13.1.5).
  if (const std::string* etag = head.find("etag");
      etag != nullptr && !etag->starts_with("W/") && is_header_text(*etag))
    etag_ = *etag;
  return check_head(head);
}

Result<std::size_t> BlobReader::read(std::span<std::byte> buffer) {
  for (;;) {
    Result<std::size_t> got{0};
    if (!stream_) {
      if (auto opened = open(); !opened) got = std::unexpected(opened.error());
    }
    if (got) {
      // One byte more than is left is asked for, so that a body that does not end is seen.
      std::uint64_t left = size_ - at_ + 1;
      auto room = buffer.first(static_cast<std::size_t>(std::min<std::uint64_t>(left, buffer.size())));
      got = stream_->read(room, stop_);
      if (got && *got > size_ - at_)
        return corrupt_error("verify blob", digest_.str(), fmt::format("longer than its {} bytes", size_));
      if (got && *got > 0) {
        at_ += *got;
        return got;
      }
      if (got && at_ == size_) return got;
      if (got) got = system_error(ECONNRESET, "blob", digest_.str());
    }
    stream_.reset();
    if (!is_transient(got.error())) return got;
    failures_ = at_ > failed_at_ ? 1 : failures_ + 1;
    failed_at_ = at_;
    if (failures_ >= repository_.registries_.options_.retry.tries) {
      if (got.error().context.empty()) got.error().context = fmt::format("blob '{}'", digest_.str());
      return with_context(got.error(), "blob",
                          fmt::format("{} ({} of {} bytes came)", digest_.str(), at_, size_));
    }
    log_line(LogLevel::kInfo,
             fmt::format("blob {}: {}; going on at byte {}", digest_.str(), got.error().message(), at_));
    // Where bytes came since the last failure the server is well: no reason to wait.
    if (failures_ > 1)
      LAYERFS_TRY(repository_.pause(repository_.delay_before(failures_ - 1, nullptr), stop_));
  }
}

}  // namespace layerfs::registry
