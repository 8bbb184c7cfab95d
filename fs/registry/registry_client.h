// SPDX-License-Identifier: Apache-2.0
// Registries and Repository: requests of the distribution-spec (1.1), with authentication, retries and ranges.
// REGISTRY.md has the invariants, cited below as [n].
//
//   Registries (configuration, HttpClient) ── open() ──> Repository (one repository at one endpoint)
//                                                          ├── open_blob() ──> BlobReader
//                                                          └── blob_upload.h: upload_blob()
//
// Any thread may use a Repository; a BlobReader is its caller's. Locks, in this order: Repository::fetch_mutex_, which is
// held while a token is fetched, so that threads that meet the same 401 fetch one; Repository::mutex_; HttpClient's.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fs/base/digest.h"
#include "fs/base/result.h"
#include "fs/registry/challenge.h"
#include "fs/registry/credentials.h"
#include "fs/registry/http.h"
#include "fs/registry/policy.h"
#include "fs/registry/registries_conf.h"

namespace layerfs::registry {

/// Most bytes of a manifest or an index; of a token's answer and of a token; of an error's body.
inline constexpr std::size_t kMaxManifest = std::size_t{4} << 20;
inline constexpr std::size_t kMaxTokenAnswer = std::size_t{1} << 20;
inline constexpr std::size_t kMaxToken = std::size_t{64} << 10;
inline constexpr std::size_t kMaxErrorBody = std::size_t{64} << 10;
/// Most pages, and tags of all of them.
inline constexpr std::size_t kMaxPages = 1000;
inline constexpr std::size_t kMaxTags = 100'000;

struct RetryPolicy {
  int tries = 5;                                    ///< of one request, or of one place in a blob
  std::chrono::milliseconds first_delay{1000};      ///< doubles, with jitter
  std::chrono::milliseconds longest_delay{60'000};  ///< caps Retry-After too
};

struct AccessOptions {
  std::optional<bool> verify_tls;          ///< --tls-verify; nullopt: as registries.conf says
  std::optional<Credentials> credentials;  ///< --creds
  std::string auth_file;                   ///< --authfile
  ConfigPaths config_paths;
  RetryPolicy retry;
  std::chrono::seconds shortest_token{60};  ///< a token is used as long as that, whatever its server says
  HttpOptions http;
};

/// What a repository is opened for: tokens are asked for that much.
struct RepositoryUse {
  bool pushes = false;
  std::vector<std::string> mounts_from;  ///< other repositories of the host, whose blobs may be mounted
};

class Repository;

class Registries {
 public:
  /// Reads registries.conf and policy.json. Errors: those of that, and kUnsupported where there is no libcurl.
  static Result<std::unique_ptr<Registries>> make(AccessOptions options);

  const RegistriesConf& conf() const { return conf_; }
  const Policy& policy() const { return policy_; }
  /// Finds credentials and certificates. Errors: those of the files and helpers.
  Result<std::unique_ptr<Repository>> open(const Endpoint& endpoint, const RepositoryUse& use = {});

 private:
  friend class Repository;
  friend class BlobReader;
  friend class BlobUpload;
  Registries(AccessOptions options, RegistriesConf conf, Policy policy, std::unique_ptr<HttpClient> http)
      : options_(std::move(options)),
        conf_(std::move(conf)),
        policy_(std::move(policy)),
        http_(std::move(http)) {}
  AccessOptions options_;
  RegistriesConf conf_;
  Policy policy_;
  std::unique_ptr<HttpClient> http_;
};

struct ManifestDocument {
  std::string media_type;  ///< Content-Type without parameters
  std::string bytes;
  Digest digest;
};

/// Reads a blob from front to back, over cut connections [6]. One thread.
class BlobReader {
 public:
  BlobReader(Repository& repository, const Digest& digest, std::uint64_t size, const std::atomic<bool>* stop)
      : repository_(repository), digest_(digest), size_(size), stop_(stop) {}
  /// 0 at the end, when all `size` bytes were given. The digest is the caller's to verify. Errors: kCorrupt naming the
  /// blob where it is longer or shorter; what the last try met.
  Result<std::size_t> read(std::span<std::byte> buffer);

 private:
  Result<void> open();
  Result<void> check_head(const HttpHead& head);
  Result<void> skip(std::uint64_t count);

  Repository& repository_;
  Digest digest_;
  std::uint64_t size_;
  const std::atomic<bool>* stop_;
  std::optional<HttpStream> stream_;
  std::uint64_t at_ = 0;
  std::uint64_t failed_at_ = 0;  ///< where the last failure was: bytes since then begin the tries anew
  int failures_ = 0;
  std::string etag_;
};

class Repository {
 public:
  Repository(Registries& registries, Endpoint endpoint, std::optional<Credentials> credentials, TlsFiles tls,
             const RepositoryUse& use);

  const Reference& reference() const { return endpoint_.reference; }

  /// By tag or digest; verified where it is a digest. Errors: ENOENT where the registry has none (404); kInvalid
  /// above kMaxManifest; kCorrupt.
  Result<ManifestDocument> get_manifest(const std::string& version);
  /// The digest that a HEAD of the manifest tells; nullopt: it tells none. Errors: ENOENT.
  Result<std::optional<Digest>> find_digest(const std::string& version);
  /// A whole blob, verified. Errors: kInvalid where `size` is more than `limit`; kCorrupt naming it.
  Result<std::string> get_blob(const Digest& digest, std::uint64_t size, std::uint64_t limit);
  /// `stop`: ends its waiting once it is true; may be null. The repository must outlive the reader.
  std::unique_ptr<BlobReader> open_blob(const Digest& digest, std::uint64_t size,
                                        const std::atomic<bool>* stop);
  Result<std::vector<std::string>> list_tags();
  /// GET /v2/: whether the registry takes us. Errors: EACCES where it does not.
  Result<void> check_access();

  /// Whether the repository has a blob with this digest, and this size where the registry says one.
  Result<bool> has_blob(const Digest& digest, std::uint64_t size, const std::atomic<bool>* stop);
  /// Whether the registry has made the blob of the repository `from` one of this repository. Errors: those of the way
  /// alone; whatever the registry says against it means no.
  Result<bool> mount_blob(const Digest& digest, const std::string& from, const std::atomic<bool>* stop);
  /// Puts a manifest, or an index, by tag or digest. Requires: what it names is there. Errors: the registry's; kCorrupt
  /// where the registry calls it by another digest.
  Result<void> put_manifest(const std::string& version, std::string_view media_type, std::string_view bytes);

 private:
  friend class BlobReader;
  friend class BlobUpload;
  struct Token {
    std::string authorization;
    std::chrono::steady_clock::time_point expires;
    bool has_ended() const { return std::chrono::steady_clock::now() >= expires; }
  };
  enum class TokenAge : std::uint8_t { kFresh, kAny };

  std::string shown() const { return endpoint_.reference.name(); }
  std::string base_url() const;
  struct Question {
    std::string method = "GET";
    std::string path = {};  ///< below the base; or a whole URL, which may be another host's
    std::vector<std::string> headers = {};
    std::optional<std::string_view> body = {};  ///< stays until the answer is gone
    bool takes_encodings = false;
    bool is_repeated = true;       ///< after answers and errors that another try may mend [6]
    bool is_worth_a_token = true;  ///< false: a 401 stands
    bool is_work = false;          ///< HttpRequest's
    const std::atomic<bool>* stop = nullptr;
  };
  /// Sends it, with authentication and retries. A status that is no error of the way (2xx, 4xx; any, where it is not
  /// repeated) comes back as a stream.
  Result<HttpStream> ask(const Question& question);
  /// Where the Location of an answer leads. Errors: kInvalid where there is none, or it leads from https to http.
  Result<std::string> location_of(const HttpStream& stream) const;
  /// "scope=A&scope=B", as tokens are asked for.
  std::string scopes() const;
  Result<HttpStream> send_retrying(const HttpRequest& request, const std::atomic<bool>* stop);
  /// The token; "" where there is none of that age.
  std::string current_authorization(TokenAge age);
  Result<void> authenticate(const HttpHead& head, const std::string& rejected, const std::atomic<bool>* stop);
  /// `base`: what base_url() says.
  Result<Token> fetch_token(const Challenge& challenge, const std::string& base,
                            const std::atomic<bool>* stop);
  /// The error that a status means, with what the registry says of it.
  Error answer_error(HttpStream& stream, std::string_view operation, std::string_view subject);
  Result<void> pause(std::chrono::milliseconds delay, const std::atomic<bool>* stop) const;
  std::chrono::milliseconds delay_before(int try_number, const HttpHead* head) const;

  Registries& registries_;
  const Endpoint endpoint_;
  const std::optional<Credentials> credentials_;
  const TlsFiles tls_;
  const bool verify_tls_;
  std::vector<std::string> scopes_;

  std::mutex fetch_mutex_;
  std::mutex mutex_;
  bool plain_http_ = false;     ///< guarded by mutex_
  bool scheme_known_ = false;   ///< guarded by mutex_: an answer came
  std::optional<Token> token_;  ///< guarded by mutex_
};

/// Certificates for HOST[:PORT]: the first of the directories of `config_paths` that has it. Errors: kInvalid where a
/// certificate has no key, or a key no certificate.
Result<TlsFiles> find_certificates(const ConfigPaths& config_paths, const std::string& host);

/// Statuses that another try may mend.
bool is_retried(int status);

/// What a registry's error body says: "CODE: message", cut; "" where it is none.
std::string registry_message(std::string_view body);

}  // namespace layerfs::registry
