// SPDX-License-Identifier: Apache-2.0
#include "runtime/container/sealed_self.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "fs/base/scope_exit.h"
#include "fs/base/sys_file.h"
#include "runtime/container/final_stage_image.h"
#include "runtime/sys/identity.h"

namespace layerfs::container {

namespace {

using spec::NamespaceKind;

bool is_sealed(int fd) {
  int seals = ::fcntl(fd, F_GET_SEALS);
  return seals >= 0 && (seals & F_SEAL_WRITE) != 0;
}

/// How much of the file is loaded: what lies behind is for debuggers, and most of some builds.
std::size_t loaded_size(std::string_view file) {
  Elf64_Ehdr header;
  if (file.size() < sizeof header) return file.size();
  std::memcpy(&header, file.data(), sizeof header);
  std::size_t end = header.e_phoff + std::size_t{header.e_phnum} * sizeof(Elf64_Phdr);
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_phentsize != sizeof(Elf64_Phdr) || end > file.size())
    return file.size();
  for (std::size_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr part;
    std::memcpy(&part, file.data() + header.e_phoff + i * sizeof part, sizeof part);
    if (part.p_type == PT_LOAD) end = std::max<std::size_t>(end, part.p_offset + part.p_filesz);
  }
  return std::min(end, file.size());
}

Result<Fd> copy_of(int fd) {
  LAYERFS_ASSIGN(struct stat st, stat_fd(fd));
  auto size = static_cast<std::size_t>(st.st_size);
  void* memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (memory == MAP_FAILED) return system_error(errno, "map the own program");
  ScopeExit unmap([&] { ::munmap(memory, size); });
  std::string_view file(static_cast<const char*>(memory), size);
  return make_sealed_program("layerfs-oci", file.substr(0, loaded_size(file)));
}

std::vector<std::string> split_at_nul(std::string_view text) {
  std::vector<std::string> list;
  while (!text.empty()) {
    list.emplace_back(text.substr(0, text.find('\0')));
    text.remove_prefix(std::min(text.size(), list.back().size() + 1));
  }
  return list;
}

}  // namespace

bool shows_itself_in(const std::vector<spec::Namespace>& joins) {
  auto has = [&](NamespaceKind kind) {
    return std::ranges::find(joins, kind, &spec::Namespace::kind) != joins.end();
  };
  return has(NamespaceKind::kPid) && !has(NamespaceKind::kUser);
}

Result<void> become_sealed() {
  LAYERFS_ASSIGN(Fd self, open_file("/proc/self/exe", O_RDONLY));
  if (is_sealed(self.get())) return {};
  LAYERFS_ASSIGN(Fd copy, copy_of(self.get()));
  LAYERFS_ASSIGN(std::string arguments, read_file("/proc/self/cmdline"));
  return sys::execute_fd_again(copy.get(), split_at_nul(arguments));
}

}  // namespace layerfs::container
