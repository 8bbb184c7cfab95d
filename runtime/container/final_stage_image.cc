// SPDX-License-Identifier: Apache-2.0
#include "runtime/container/final_stage_image.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <cerrno>
#include <span>

#include "fs/base/sys_file.h"

#ifdef LAYERFS_FINAL_STAGE
asm(".section .rodata\n"
    ".global layerfs_final_stage_begin\n"
    ".balign 16\n"
    "layerfs_final_stage_begin:\n"
    ".incbin \"" LAYERFS_FINAL_STAGE
    "\"\n"
    ".global layerfs_final_stage_end\n"
    "layerfs_final_stage_end:\n"
    ".byte 0\n"
    ".previous\n");
#endif

extern "C" const char layerfs_final_stage_begin[];
extern "C" const char layerfs_final_stage_end[];

namespace layerfs::container {

namespace {

constexpr unsigned kMayExecute = 0x10;  // MFD_EXEC (memfd_create(2)): needed where vm.memfd_noexec is set

Result<Fd> make_sealed(const char* name, std::string_view bytes, unsigned flags) {
  int raw = ::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
  // Before Linux 6.3 the flag is unknown, and every memfd may be executed.
  if (raw < 0 && errno == EINVAL) raw = ::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (raw < 0) return system_error(errno, "create memory file", name);
  Fd fd(raw);
  LAYERFS_TRY(write_full(fd.get(), std::as_bytes(std::span(bytes))));
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0)
    return system_error(errno, "seal memory file", name);
  return fd;
}

}  // namespace

std::string_view final_stage_image() {
  return {layerfs_final_stage_begin,
          static_cast<std::size_t>(layerfs_final_stage_end - layerfs_final_stage_begin)};
}

Result<Fd> make_final_stage() { return make_sealed_program("layerfs-init", final_stage_image()); }

Result<Fd> make_sealed_program(const char* name, std::string_view bytes) {
  return make_sealed(name, bytes, kMayExecute);
}

Result<Fd> make_sealed_file(const char* name, std::string_view bytes) { return make_sealed(name, bytes, 0); }

}  // namespace layerfs::container
