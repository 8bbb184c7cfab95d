// SPDX-License-Identifier: Apache-2.0
#include "fs/registry/credentials.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <thread>

#include "fs/base/bytes.h"
#include "fs/base/scope_exit.h"
#include "fs/base/sys_file.h"
#include "fs/registry/json.h"

namespace layerfs::registry {

namespace {

constexpr std::string_view kNotFound = "credentials not found in native keychain";

bool is_helper_name(std::string_view name) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
  return !name.empty() && name.find_first_not_of(kAllowed) == std::string_view::npos;
}

struct HelperAnswer {
  std::string text;
  int status = 0;
};

/// Everything that the child says before `deadline`.
Result<std::string> read_answer(int fd, std::chrono::steady_clock::time_point deadline) {
  std::string text;
  std::array<char, 4096> buffer;
  for (;;) {
    auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd waits{.fd = fd, .events = POLLIN, .revents = 0};
    int ready = ::poll(&waits, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) return errno_error(ETIMEDOUT);
    ssize_t got = ::read(fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(got));
    if (text.size() > kMaxHelperAnswer) return refuse("its answer is longer than 1 MiB");
  }
}

/// `verb`: get, store or erase (docker-credential-helpers' protocol).
Result<HelperAnswer> run_helper(const std::string& program, std::string verb, const std::string& input) {
  // A socket, so that a helper that reads nothing is an error here and no signal.
  std::array<int, 2> pair{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0)
    return system_error(errno, "socketpair");
  Fd ours(pair[0]);
  Fd theirs(pair[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  ScopeExit destroy_actions([&] { posix_spawn_file_actions_destroy(&actions); });
  posix_spawn_file_actions_adddup2(&actions, theirs.get(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, theirs.get(), STDOUT_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  ScopeExit destroy_attributes([&] { posix_spawnattr_destroy(&attributes); });
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);  // a command that watches signals has them blocked
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  std::string name = program;
  std::array<char*, 3> argv{name.data(), verb.data(), nullptr};
  pid_t pid = -1;
  if (int code = ::posix_spawnp(&pid, program.c_str(), &actions, &attributes, argv.data(), environ);
      code != 0)
    return system_error(code, "start");
  theirs = Fd();
  // The helper may be gone before it was asked: then its answer says why.
  static_cast<void>(::send(ours.get(), input.data(), input.size(), MSG_NOSIGNAL));
  ::shutdown(ours.get(), SHUT_WR);
  const auto deadline = std::chrono::steady_clock::now() + kHelperPatience;
  auto text = read_answer(ours.get(), deadline);
  HelperAnswer answer;
  // One that has answered may still not end.
  while (text && ::waitpid(pid, &answer.status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() >= deadline) text = system_error(ETIMEDOUT, "wait for its end");
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  if (!text) {
    ::kill(pid, SIGKILL);
    while (::waitpid(pid, &answer.status, 0) < 0 && errno == EINTR) {
    }
  }
  if (!text) return std::unexpected(text.error());
  answer.text = std::move(*text);
  return answer;
}

std::string trimmed(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' ')) text.pop_back();
  return text;
}

/// The answer of a helper that says yes; nullopt: that it knows nothing of the server.
Result<std::optional<std::string>> call_helper(const std::string& name, const std::string& verb,
                                               const std::string& server, const std::string& input) {
  if (!is_helper_name(name)) return invalid_error("credential helper", name, "no name of a program");
  std::string program = "docker-credential-" + name;
  auto answer = run_helper(program, verb, input);
  if (!answer) return with_context(answer.error(), "credential helper", program);
  if (answer->status == 0) return std::move(answer->text);
  if (trimmed(answer->text) == kNotFound) return std::nullopt;
  // What it printed may be anything, also a secret.
  std::string how = WIFEXITED(answer->status) ? fmt::format("exit status {}", WEXITSTATUS(answer->status))
                                              : fmt::format("signal {}", WTERMSIG(answer->status));
  return invalid_error("credential helper", program, fmt::format("it failed for '{}': {}", server, how));
}

Result<std::optional<Credentials>> credentials_in(const AuthFile& file, const std::string& host,
                                                  const std::string& path) {
  std::string server = docker_server(host);
  for (const auto& key : {host, server})
    if (auto helper = file.helpers.find(key); helper != file.helpers.end())
      return ask_helper(helper->second, key);
  if (auto found = find_credentials(file, host, path)) return found;
  if (!file.store.empty()) return ask_helper(file.store, server);
  return std::nullopt;
}

enum class WhenMissing : bool { kIsError, kIsNone };
Result<std::optional<Credentials>> look_in_file(const std::string& name, AuthFileKind kind,
                                                WhenMissing missing, const std::string& host,
                                                const std::string& path) {
  LAYERFS_ASSIGN(auto there, find_stat_at(AT_FDCWD, name, 0));
  if (!there && missing == WhenMissing::kIsNone) return std::nullopt;
  LAYERFS_ASSIGN(std::string text, read_file(name, kMaxAuthFile));
  auto file = parse_auth_file(text, kind);
  if (!file) return with_context(file.error(), "read", name);
  return credentials_in(*file, host, path);
}

}  // namespace

std::string docker_server(const std::string& host) {
  return host == "docker.io" ? "https://index.docker.io/v1/" : host;
}

Result<Credentials> parse_credentials(std::string_view text) {
  std::size_t colon = text.find(':');
  if (colon == 0 || text.empty()) return invalid_error("--creds", {}, "USER[:PASSWORD] is wanted");
  if (colon == std::string_view::npos) return Credentials{std::string(text), {}, {}};
  return Credentials{std::string(text.substr(0, colon)), std::string(text.substr(colon + 1)), {}};
}

Result<std::optional<Credentials>> ask_helper(const std::string& name, const std::string& server) {
  LAYERFS_ASSIGN(auto answer, call_helper(name, "get", server, server));
  if (!answer) return std::nullopt;
  auto json = parse_json(*answer);
  if (!json) return with_context(json.error(), "credential helper", "docker-credential-" + name);
  Credentials found;
  found.user = text_or_none(*json, "Username");
  std::string secret = text_or_none(*json, "Secret");
  if (found.user == "<token>")
    found = {{}, {}, std::move(secret)};
  else
    found.password = std::move(secret);
  return found;
}

Result<void> store_in_helper(const std::string& name, const std::string& server,
                             const Credentials& credentials) {
  Json json = {{"ServerURL", server}, {"Username", credentials.user}, {"Secret", credentials.password}};
  LAYERFS_TRY(call_helper(name, "store", server, json.dump(-1, ' ', false, Json::error_handler_t::replace)));
  return {};
}

Result<std::vector<std::string>> list_helper(const std::string& name) {
  LAYERFS_ASSIGN(auto answer, call_helper(name, "list", "all", ""));
  std::vector<std::string> servers;
  if (!answer) return servers;
  auto json = parse_json(*answer);
  if (!json) return with_context(json.error(), "credential helper", "docker-credential-" + name);
  for (const auto& [server, user] : json->items()) servers.push_back(server);
  return servers;
}

Result<void> erase_in_helper(const std::string& name, const std::string& server) {
  LAYERFS_TRY(call_helper(name, "erase", server, server));
  return {};
}

Result<std::optional<Credentials>> find_user_credentials(const ConfigPaths& config_paths,
                                                         const RegistriesConf& conf,
                                                         const std::string& auth_file,
                                                         const std::string& host, const std::string& path) {
  if (!auth_file.empty())
    return look_in_file(auth_file, AuthFileKind::kCurrent, WhenMissing::kIsError, host, path);
  if (!config_paths.auth_file.empty())
    return look_in_file(config_paths.auth_file, AuthFileKind::kCurrent, WhenMissing::kIsNone, host, path);
  struct File {
    std::string name;
    AuthFileKind kind;
  };
  std::vector<File> files{{config_paths.runtime_auth_file(), AuthFileKind::kCurrent}};
  if (!config_paths.config_home.empty())
    files.push_back({join_path(config_paths.config_home, "containers/auth.json"), AuthFileKind::kCurrent});
  if (!config_paths.docker_config.empty())
    files.push_back({join_path(config_paths.docker_config, "config.json"), AuthFileKind::kCurrent});
  if (!config_paths.home.empty())
    files.push_back({join_path(config_paths.home, ".dockercfg"), AuthFileKind::kDockercfg});
  const auto look_in_files = [&]() -> Result<std::optional<Credentials>> {
    for (const auto& file : files) {
      LAYERFS_ASSIGN(auto found, look_in_file(file.name, file.kind, WhenMissing::kIsNone, host, path));
      if (found) return found;
    }
    return std::nullopt;
  };
  const auto helpers = conf.credential_helpers.value_or(std::vector<std::string>{});
  for (const auto& helper : helpers) {
    LAYERFS_ASSIGN(auto found, helper == kFileHelper ? look_in_files() : ask_helper(helper, host));
    if (found) return found;
  }
  // Where the list does not say when, they come last.
  if (std::ranges::find(helpers, kFileHelper) == helpers.end()) return look_in_files();
  return std::nullopt;
}

}  // namespace layerfs::registry
