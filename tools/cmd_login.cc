// SPDX-License-Identifier: Apache-2.0
#include "tools/cmd_login.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <string>

#include "fs/base/process_start.h"
#include "fs/registry/login.h"
#include "fs/registry/registry_client.h"
#include "runtime/sys/terminal.h"
#include "tools/cmd_interrupt.h"
#include "tools/cmd_pull.h"

namespace layerfs::tools {

namespace {

constexpr std::size_t kMaxTyped = std::size_t{64} << 10;

struct LoginArguments {
  std::string registry;
  std::string user;
  std::optional<std::string> password;
  bool password_stdin = false;
  bool get_login = false;
  bool all = false;  ///< of logout
  AccessArguments access;
};

/// Up to the end of the line, or of the input. Byte by byte: what follows is not ours.
Result<std::string> read_line() {
  std::string line;
  for (char byte = 0; line.size() < kMaxTyped;) {
    ssize_t got = ::read(STDIN_FILENO, &byte, 1);
    if (got < 0) return system_error(errno, "read", "standard input");
    if (got == 0 || byte == '\n') break;
    line += byte;
  }
  return line;
}

Result<std::string> read_all_input() {
  std::string text;
  char buffer[4096];
  for (;;) {
    ssize_t got = ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (got < 0) return system_error(errno, "read", "standard input");
    if (got == 0) break;
    text.append(buffer, static_cast<std::size_t>(got));
    if (text.size() > kMaxTyped) return invalid_error("--password-stdin", {}, "longer than 64 KiB");
  }
  while (text.ends_with('\n') || text.ends_with('\r')) text.pop_back();
  return text;
}

/// Typed without being shown. The terminal gives the keys as they are, Ctrl-C too.
Result<std::string> ask_password() {
  if (!sys::is_terminal(STDIN_FILENO))
    return invalid_error("password", {}, "no terminal to ask for it: --password-stdin reads it");
  constexpr char kCtrlC = 3;
  constexpr char kCtrlD = 4;
  std::string typed;
  bool is_ended = false;
  {
    // Before the question: who answers at once is not shown either.
    LAYERFS_ASSIGN(auto raw, sys::RawTerminal::make(STDIN_FILENO));
    write_standard_error("Password: ");
    for (char byte = 0; typed.size() < kMaxTyped && ::read(STDIN_FILENO, &byte, 1) == 1;) {
      is_ended = byte == kCtrlC;
      if (is_ended || byte == '\r' || byte == '\n' || byte == kCtrlD) break;
      if (byte != '\b' && byte != 0x7f) {
        typed += byte;
      } else if (!typed.empty()) {
        typed.pop_back();
      }
    }
  }
  write_standard_error("\n");
  if (is_ended) ::raise(SIGINT);
  return typed;
}

/// The registry that was named, else the first that short names are looked for in.
Result<std::string> find_registry(const LoginArguments& arguments, const registry::RegistriesConf& conf) {
  if (!arguments.registry.empty()) return registry::parse_login_name(arguments.registry);
  if (conf.search && !conf.search->empty()) return registry::parse_login_name(conf.search->front());
  return invalid_error("registry", {}, "which one? No unqualified-search-registries are configured");
}

/// Asks the registry whether it takes these. A path of `key` is for files alone.
Result<void> check_credentials(const LoginArguments& arguments, const std::string& key,
                               const registry::Credentials& credentials) {
  InterruptWatch interrupt;
  auto checked = [&]() -> Result<void> {
    LAYERFS_ASSIGN(auto access, make_access(arguments.access, &interrupt));
    access.credentials = credentials;
    LAYERFS_ASSIGN(auto registries, registry::Registries::make(std::move(access)));
    registry::Reference any{key.substr(0, key.find('/')), "any", "latest", {}};
    LAYERFS_ASSIGN(auto endpoint, registry::find_write_endpoint(registries->conf(), any));
    endpoint.reference.path.clear();
    LAYERFS_ASSIGN(auto repository, registries->open(endpoint));
    return repository->check_access();
  }();
  if (!checked) interrupt.end_if_interrupted();
  return checked;
}

Result<void> run_login(LoginArguments& arguments) {
  LAYERFS_ASSIGN(auto access, make_access(arguments.access, nullptr));
  LAYERFS_ASSIGN(auto conf, registry::read_registries_conf(access.config_paths));
  LAYERFS_ASSIGN(std::string key, find_registry(arguments, conf));
  std::string host = key.substr(0, key.find('/'));
  std::string path = host.size() < key.size() ? key.substr(host.size() + 1) : "";
  // A file that is still to be made has nothing.
  std::string file = registry::login_file(access.config_paths, arguments.access.auth_file);
  bool is_there = ::access(file.c_str(), F_OK) == 0;
  bool is_complete = !arguments.user.empty() && (arguments.password || arguments.password_stdin);
  std::optional<registry::Credentials> known;
  if ((arguments.access.auth_file.empty() || is_there) && (arguments.get_login || !is_complete)) {
    LAYERFS_ASSIGN(known, registry::find_user_credentials(access.config_paths, conf,
                                                          arguments.access.auth_file, host, path));
  }
  if (arguments.get_login) {
    if (!known) return system_error(ENOENT, "not logged into", key);
    return print(known->user + '\n');
  }
  if (arguments.password_stdin && arguments.password)
    return invalid_error("--password-stdin", {}, "not with --password");
  if (arguments.password_stdin && arguments.user.empty())
    return invalid_error("--password-stdin", {}, "--username is wanted too");
  bool is_given = !arguments.user.empty() || arguments.password || arguments.password_stdin;
  if (known && !is_given) {
    write_standard_error(fmt::format("Authenticating with existing credentials for {}\n", key));
    if (check_credentials(arguments, key, *known))
      return print(fmt::format("Existing credentials are valid. Already logged in to {}\n", key));
    write_standard_error("Existing credentials are invalid, please enter valid username and password\n");
  }
  registry::Credentials entered{arguments.user, arguments.password.value_or(""), {}};
  if (entered.user.empty()) {
    write_standard_error(known && !known->user.empty() ? fmt::format("Username ({}): ", known->user)
                                                       : "Username: ");
    LAYERFS_ASSIGN(entered.user, read_line());
    if (entered.user.empty() && known) entered.user = known->user;
  }
  if (entered.user.empty() || entered.user.find(':') != std::string::npos)
    return invalid_error("username", entered.user, "it is empty, or has a colon");
  if (arguments.password_stdin) {
    LAYERFS_ASSIGN(entered.password, read_all_input());
  } else if (!arguments.password) {
    LAYERFS_ASSIGN(entered.password, ask_password());
  }
  if (auto checked = check_credentials(arguments, key, entered); !checked)
    return with_context(checked.error(), "log in to", key);
  LAYERFS_TRY(registry::store_login(access.config_paths, conf, arguments.access.auth_file, key, entered));
  return print("Login Succeeded!\n");
}

Result<void> run_logout(const LoginArguments& arguments) {
  LAYERFS_ASSIGN(auto access, make_access(arguments.access, nullptr));
  if (arguments.all) {
    if (!arguments.registry.empty()) return invalid_error("--all", arguments.registry, "not with a registry");
    LAYERFS_ASSIGN(auto conf, registry::read_registries_conf(access.config_paths));
    LAYERFS_TRY(registry::remove_all_logins(access.config_paths, conf, arguments.access.auth_file));
    return print("Removed login credentials for all registries\n");
  }
  LAYERFS_ASSIGN(auto conf, registry::read_registries_conf(access.config_paths));
  LAYERFS_ASSIGN(std::string key, find_registry(arguments, conf));
  LAYERFS_ASSIGN(bool was_there,
                 registry::remove_login(access.config_paths, conf, arguments.access.auth_file, key));
  if (!was_there) return system_error(ENOENT, "not logged into", key);
  return print(fmt::format("Removed login credentials for {}\n", key));
}

constexpr const char* kRegistryHelp =
    "HOST[:PORT][/NAME] (default: the first of unqualified-search-registries)";
constexpr const char* kAuthFileHelp = "File of credentials, in place of the usual ones";

}  // namespace

void add_login_commands(CLI::App& app, Tool& tool) {
  auto login = std::make_shared<LoginArguments>();
  CLI::App* command = app.add_subcommand("login", "Log in to a registry, for pull and push");
  command->add_option("REGISTRY", login->registry, kRegistryHelp);
  command->add_option("-u,--username", login->user, "User name (default: it is asked for)");
  command->add_option("-p,--password", login->password,
                      "Password, which others may see in the list of processes (default: it is asked for)");
  command->add_flag("--password-stdin", login->password_stdin, "Read the password from standard input");
  command->add_flag("--get-login", login->get_login, "Only print the user name of the login that is there");
  command->add_option("--authfile", login->access.auth_file, kAuthFileHelp);
  command->add_flag("--tls-verify", login->access.tls_verify,
                    "With =false: take any certificate of the registry, and plain HTTP");
  command->callback([login, &tool] { finish(tool, run_login(*login)); });

  auto logout = std::make_shared<LoginArguments>();
  command = app.add_subcommand("logout", "Forget the login to a registry");
  command->add_option("REGISTRY", logout->registry, kRegistryHelp);
  command->add_flag("-a,--all", logout->all, "All registries");
  command->add_option("--authfile", logout->access.auth_file, kAuthFileHelp);
  command->callback([logout, &tool] { finish(tool, run_logout(*logout)); });
}

}  // namespace layerfs::tools
