// SPDX-License-Identifier: Apache-2.0
#include "fs/store/pack_file.h"

#include <fcntl.h>

#include <string_view>

#include "fs/base/bytes.h"
#include "fs/base/random.h"
#include "fs/base/sys_file.h"
#include "fs/store/layout.h"

namespace layerfs::store {

namespace {

constexpr std::string_view kPackMagic = "LFSPACK1";
constexpr std::uint32_t kPackVersion = 1;
constexpr std::size_t kBuffer = 512 * 1024;
constexpr std::uint64_t kWritebackStep = std::uint64_t{8} << 20;

}  // namespace

Result<void> check_pack_head(int fd, const std::string& path) {
  char head[kPackHeadSize];
  auto got = pread_full(fd, std::as_writable_bytes(std::span(head)), 0);
  if (!got) return with_context(got.error(), "open pack", path);
  if (*got != sizeof head || std::string_view(head, kPackMagic.size()) != kPackMagic)
    return corrupt_error("open pack", path, "not a pack file");
  if (load_le<std::uint32_t>(head + 8) != kPackVersion)
    return unsupported_error("open pack", path, "written by a newer version of layerfs");
  return {};
}

void start_writeback(int fd, std::uint64_t from, std::uint64_t to) {
  if (to <= from) return;  // sync_file_range(2) takes a length of 0 as "to the end"
  // Only advice: where it fails, fsync does all the work.
  static_cast<void>(
      ::sync_file_range(fd, static_cast<off_t>(from), static_cast<off_t>(to - from), SYNC_FILE_RANGE_WRITE));
}

PackFile::PackFile(std::string path, Fd fd) : path_(std::move(path)), fd_(std::move(fd)), id_(random_id()) {
  buffer_.reserve(kBuffer);
  buffer_ += kPackMagic;
  append_le(buffer_, kPackVersion);
  append_le(buffer_, std::uint32_t{0});
}

Result<PackFile> PackFile::create(const OwnDirectory& store, std::string path) {
  LAYERFS_ASSIGN(Fd fd, store.open(path, O_WRONLY | O_CREAT | O_EXCL, 0600));
  return PackFile(std::move(path), std::move(fd));
}

Result<std::uint64_t> PackFile::append(std::span<const std::byte> data) {
  if (buffer_.size() + data.size() > kBuffer) LAYERFS_TRY(flush());
  std::uint64_t offset = size();
  buffer_ += as_text(data);
  return offset;
}

Result<void> PackFile::flush() {
  if (auto written = write_full(fd_.get(), as_bytes(buffer_)); !written)
    return with_context(written.error(), "write pack");
  written_ += buffer_.size();
  buffer_.clear();
  if (written_ - pushed_ >= kWritebackStep) {
    start_writeback(fd_.get(), pushed_, written_);
    pushed_ = written_;
  }
  return {};
}

Result<void> PackFile::push() {
  LAYERFS_TRY(flush());
  start_writeback(fd_.get(), pushed_, written_);
  pushed_ = written_;
  return {};
}

Result<void> PackFile::sync() { return sync_fd(fd_.get()); }

}  // namespace layerfs::store
