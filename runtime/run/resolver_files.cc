// SPDX-License-Identifier: Apache-2.0
#include "runtime/run/resolver_files.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <span>

#include "fs/base/sys_file.h"
#include "fs/mount/container_dir.h"

namespace layerfs::run {

namespace {

template <class Visit>
void for_each_line(std::string_view text, Visit visit) {
  while (!text.empty()) {
    std::size_t end = text.find('\n');
    visit(text.substr(0, end));
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
  }
}

/// Where people look first when no name resolves.
constexpr const char* kNoNetwork =
    "# layerfs: this container has no network but its loopback interface, so no name server is reached.\n"
    "# `layerfs run --network host` gives a container the host's.\n";

Result<void> write_plain(const std::string& directory, const char* name, std::string_view text) {
  LAYERFS_ASSIGN(Fd fd, mount::open_container_file(directory, name, O_WRONLY | O_CREAT | O_TRUNC, 0644));
  // Whatever the caller's umask: every user of the container reads them.
  if (::fchmod(fd.get(), 0644) != 0) return system_error(errno, "chmod", name);
  return write_full(fd.get(), std::as_bytes(std::span(text)));
}

}  // namespace

std::string hosts_text(std::string_view host_file, std::string_view hostname) {
  std::string text(host_file);
  if (text.empty()) text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
  if (text.back() != '\n') text += '\n';
  if (!hostname.empty()) text += "127.0.1.1\t" + std::string(hostname) + '\n';
  return text;
}

std::string resolv_text(std::string_view host_file, NameServers which) {
  std::string text;
  for_each_line(host_file, [&](std::string_view line) {
    if (which == NameServers::kNotLoopback && line.starts_with("nameserver")) {
      std::size_t at = line.find_first_not_of(" \t", std::string_view("nameserver").size());
      std::string_view address = at == std::string_view::npos ? std::string_view{} : line.substr(at);
      if (address.starts_with("127.") || address.starts_with("::1")) return;
    }
    text += line;
    text += '\n';
  });
  return text;
}

Result<void> write_resolver_files(const std::string& directory, const ResolverFiles& files) {
  constexpr std::size_t kLimit = std::size_t{1} << 20;
  auto host_resolv = read_file("/etc/resolv.conf", kLimit);
  auto which = files.host_network ? NameServers::kAll : NameServers::kNotLoopback;
  std::string resolv = resolv_text(host_resolv ? *host_resolv : std::string(), which);
  LAYERFS_TRY(write_plain(directory, "resolv.conf", files.host_network ? resolv : kNoNetwork + resolv));
  // The host's own names mean something only on its network.
  auto host_hosts = files.host_network ? read_file("/etc/hosts", kLimit) : Result<std::string>(std::string());
  LAYERFS_TRY(
      write_plain(directory, "hosts", hosts_text(host_hosts ? *host_hosts : std::string(), files.hostname)));
  return write_plain(directory, "hostname", files.hostname + '\n');
}

}  // namespace layerfs::run
