// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/device.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "fs/base/bytes.h"
#include "fs/base/descriptor_message.h"
#include "fs/base/sys_file.h"

namespace layerfs::fuse {
namespace {

constexpr const char* kHelper = "fusermount3";
constexpr int kHelperSocket = 3;  // the helper's descriptor for _FUSE_COMMFD

/// Commas end a mount option, so fusermount3 wants them escaped.
std::string escape_option(std::string_view text) {
  std::string escaped;
  for (char c : text) {
    if (c == ',' || c == '\\') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

/// What fusermount3 knows of mount(2)'s flags, by its names (libfuse's util/fusermount.c).
struct FlagName {
  unsigned long flag;
  const char* name;
};
constexpr FlagName kHelperFlags[] = {{MS_NOEXEC, "noexec"},
                                     {MS_NOATIME, "noatime"},
                                     {MS_NODIRATIME, "nodiratime"},
                                     {MS_SYNCHRONOUS, "sync"},
                                     {MS_DIRSYNC, "dirsync"}};
/// It does not know these either, but they ask for nothing that a FUSE mount does not do anyway: the server
/// says when a file was read, and keeps all times itself.
constexpr unsigned long kImplied = MS_RELATIME | MS_STRICTATIME | MS_LAZYTIME;

unsigned long flags_beyond_helper(const FuseOptions& options) {
  unsigned long known = kImplied;
  for (const FlagName& flag : kHelperFlags) known |= flag.flag;
  return options.mount_flags & ~known;
}

std::string helper_options(const FuseOptions& options) {
  std::string text =
      fmt::format("fsname={},subtype=layerfs,default_permissions", escape_option(options.source));
  text += options.read_only ? ",ro" : ",rw";
  if (options.allow_other) text += ",allow_other";
  for (const FlagName& flag : kHelperFlags)
    if ((options.mount_flags & flag.flag) != 0) text += fmt::format(",{}", flag.name);
  if (options.suid) text += ",suid";
  if (options.dev) text += ",dev";
  return text;
}

struct Pair {
  Fd first;
  Fd second;
};

Result<Pair> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return system_error(errno, "pipe");
  return Pair{Fd(ends[0]), Fd(ends[1])};
}

Result<Pair> make_socket_pair() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return system_error(errno, "socketpair");
  return Pair{Fd(ends[0]), Fd(ends[1])};
}

/// The descriptor that the helper sends; an empty Fd where it closed the socket without one.
Result<Fd> receive_descriptor(int socket) {
  std::byte byte{};
  auto message = receive_with_descriptor(socket, std::span(&byte, 1));
  if (!message) return system_error(message.error().code, "receive the device of", kHelper);
  return std::move(message->fd);
}

/// What the helper wrote to standard error, as one line without its name before it.
std::string read_message(int fd) {
  std::string text;
  std::array<std::byte, 1024> buffer{};
  while (text.size() < 4096) {
    auto count = read_full(fd, buffer);
    if (!count || *count == 0) break;
    text += as_text(std::span(buffer).first(*count));
  }
  while (!text.empty() && text.back() == '\n') text.pop_back();
  for (char& c : text)
    if (c == '\n') c = ' ';
  constexpr std::string_view kPrefix = "fusermount3: ";
  if (text.starts_with(kPrefix)) text.erase(0, kPrefix.size());
  return text;
}

int wait_for(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

struct Helper {
  pid_t pid = -1;
  Fd messages;  // its standard error
};

/// Starts `fusermount3 arguments...`; `socket` (may be -1) becomes its descriptor 3.
Result<Helper> start_helper(const std::vector<std::string>& arguments, int socket) {
  LAYERFS_ASSIGN(auto messages, make_pipe());
  std::vector<char*> argv{const_cast<char*>(kHelper)};
  for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  std::string variable = fmt::format("_FUSE_COMMFD={}", kHelperSocket);
  std::vector<char*> environment;
  for (char** item = environ; *item != nullptr; ++item) environment.push_back(*item);
  environment.push_back(variable.data());
  environment.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, messages.second.get(), STDERR_FILENO);
  if (socket >= 0) posix_spawn_file_actions_adddup2(&actions, socket, kHelperSocket);
  Helper helper;
  int code = ::posix_spawnp(&helper.pid, kHelper, &actions, nullptr, argv.data(), environment.data());
  posix_spawn_file_actions_destroy(&actions);
  if (code != 0) return system_error(code, "run", kHelper);
  helper.messages = std::move(messages.first);
  return helper;
}

std::unexpected<Error> helper_error(std::string_view operation, const std::string& mountpoint,
                                    const std::string& text, int fallback) {
  auto error = system_error(fallback, operation, mountpoint);
  if (!text.empty()) {
    Error full = std::move(error).error();
    full.reason = fmt::format("{}: {}", kHelper, text);
    return std::unexpected(std::move(full));
  }
  return error;
}

Result<Fd> mount_by_helper(const std::string& mountpoint, const FuseOptions& options) {
  if (options.suid || options.dev)
    return unsupported_error("mount", mountpoint, "the options suid and dev need root");
  if (flags_beyond_helper(options) != 0)
    return unsupported_error("mount", mountpoint, "the option nosymfollow needs root");
  LAYERFS_ASSIGN(auto sockets, make_socket_pair());
  LAYERFS_ASSIGN(auto helper,
                 start_helper({"-o", helper_options(options), "--", mountpoint}, sockets.second.get()));
  sockets.second.reset();  // so that its end is seen
  auto device = receive_descriptor(sockets.first.get());
  std::string text = read_message(helper.messages.get());
  int status = wait_for(helper.pid);
  if (!device) return with_context(device.error(), "mount", mountpoint);
  if (!*device || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
    return helper_error("mount", mountpoint, text, EPERM);
  return device;
}

unsigned long mount_flags(const FuseOptions& options) {
  unsigned long flags = options.mount_flags;
  if (!options.suid) flags |= MS_NOSUID;
  if (!options.dev) flags |= MS_NODEV;
  if (options.read_only) flags |= MS_RDONLY;
  return flags;
}

}  // namespace

std::string mount_data(int device, const FuseOptions& options) {
  // rootmode: only its type counts, the attributes are asked for at the first use. The ids are the caller's
  // in the namespace that mounts.
  return fmt::format("fd={},rootmode=40000,user_id={},group_id={},default_permissions{}", device, ::getuid(),
                     ::getgid(), options.allow_other ? ",allow_other" : "");
}

Result<Fd> mount_device(const std::string& mountpoint, const FuseOptions& options) {
  // First by mount(2): root, and root of a user namespace. The device has to be opened inside that namespace.
  auto device = open_file("/dev/fuse", O_RDWR);
  if (device && ::geteuid() == 0) {
    int code = 0;
    if (::mount(options.source.c_str(), mountpoint.c_str(), "fuse.layerfs", mount_flags(options),
                mount_data(device->get(), options).c_str()) != 0)
      code = errno;
    if (code == 0) return std::move(*device);
    if (code != EPERM) return system_error(code, "mount", mountpoint);
  } else if (!device && device.error().code != EACCES && device.error().code != EPERM) {
    return with_context(device.error(), "mount", mountpoint);
  }
  return mount_by_helper(mountpoint, options);
}

Result<void> unmount_path(const std::string& mountpoint, UnmountMode mode) {
  int flags = UMOUNT_NOFOLLOW | (mode == UnmountMode::kLazy ? MNT_DETACH : 0);
  if (::umount2(mountpoint.c_str(), flags) == 0) return {};
  int code = errno;
  if (code != EPERM) return system_error(code, "unmount", mountpoint);
  std::vector<std::string> arguments{"-u"};
  if (mode == UnmountMode::kLazy) arguments.emplace_back("-z");
  arguments.insert(arguments.end(), {"--", mountpoint});
  LAYERFS_ASSIGN(auto helper, start_helper(arguments, -1));
  std::string text = read_message(helper.messages.get());
  int status = wait_for(helper.pid);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  bool busy = text.find("busy") != std::string::npos;
  return helper_error("unmount", mountpoint, text, busy ? EBUSY : EPERM);
}

}  // namespace layerfs::fuse
