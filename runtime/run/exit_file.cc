// SPDX-License-Identifier: Apache-2.0
#include "runtime/run/exit_file.h"

#include <fcntl.h>

#include <span>

#include "fs/base/sys_file.h"
#include "fs/mount/container_dir.h"
#include "runtime/run/json_fields.h"

namespace layerfs::run {

namespace {

constexpr const char* kExitName = "exit";
constexpr std::size_t kExitSize = 512;

}  // namespace

Result<ExitFile> ExitFile::create(const std::string& container_dir) {
  LAYERFS_ASSIGN(Fd fd,
                 mount::open_container_file(container_dir, kExitName, O_WRONLY | O_CREAT | O_TRUNC, 0600));
  ExitFile file(std::move(fd));
  LAYERFS_TRY(file.write({}));
  return file;
}

Result<void> ExitFile::write(const ExitRecord& record) const {
  nlohmann::json document{
      {"status", record.status}, {"finished", record.finished}, {"oom", record.out_of_memory}};
  std::string text = document.dump();
  text.resize(kExitSize - 1, ' ');
  text += '\n';
  return pwrite_full(fd_.get(), std::as_bytes(std::span(text)), 0);
}

std::optional<ExitRecord> read_exit(const std::string& container_dir) {
  auto text = mount::read_container_file(container_dir, kExitName, 65536);
  if (!text) return std::nullopt;
  auto document = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!document.is_object()) return std::nullopt;
  ExitRecord record;
  record.status = static_cast<int>(integer_field(document, "status", record.status));
  record.finished = integer_field(document, "finished", 0);
  record.out_of_memory = boolean_field(document, "oom");
  return record;
}

}  // namespace layerfs::run
