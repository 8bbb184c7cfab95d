// SPDX-License-Identifier: Apache-2.0
#include "fs/image/archive_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <set>

#include "fs/base/fd.h"
#include "fs/base/log.h"
#include "fs/base/sys_file.h"
#include "fs/image/tar_format.h"

namespace layerfs::image {

namespace {

class ArchiveFile final : public ImageOutput {
 public:
  ArchiveFile(std::string path, std::string temp, Fd file)
      : path_(std::move(path)), temp_(std::move(temp)), file_(std::move(file)) {}

  ~ArchiveFile() override {
    if (finished_) return;
    if (auto removed = unlink_at(AT_FDCWD, temp_, 0); !removed) log_warning("{}", removed.error().message());
  }
  ArchiveFile(const ArchiveFile&) = delete;
  ArchiveFile& operator=(const ArchiveFile&) = delete;

  Result<void> begin_blob() override {
    LAYERFS_TRY(need_directories());
    header_at_ = at_;
    at_ += kTarBlock;
    return {};
  }

  Result<void> write(std::string_view bytes) override {
    LAYERFS_TRY(put(bytes, at_));
    at_ += bytes.size();
    return {};
  }

  Result<void> end_blob(const Digest& digest) override {
    if (!blobs_.insert(digest).second) {  // there already: the next entry is written over it
      at_ = header_at_;
      return {};
    }
    std::uint64_t size = at_ - header_at_ - kTarBlock;
    LAYERFS_TRY(put_header(header_at_, blob_path(digest), TarType::kRegular, size));
    return pad(size);
  }

  Result<void> put_document(const std::string& name, std::string_view bytes) override {
    LAYERFS_TRY(put_header(at_, name, TarType::kRegular, bytes.size()));
    at_ += kTarBlock;
    LAYERFS_TRY(write(bytes));
    return pad(bytes.size());
  }

  Result<void> finish() override {
    LAYERFS_TRY(write(std::string(2 * kTarBlock, '\0')));
    if (::ftruncate(file_.get(), static_cast<off_t>(at_)) != 0) return system_error(errno, "truncate", temp_);
    LAYERFS_TRY(sync_data(file_.get()));
    LAYERFS_TRY(rename_file(temp_, path_));
    finished_ = true;
    return {};
  }

 private:
  Result<void> need_directories() {
    if (at_ != 0) return {};
    for (const char* name : {"blobs/", "blobs/sha256/"}) {
      LAYERFS_TRY(put_header(at_, name, TarType::kDirectory, 0));
      at_ += kTarBlock;
    }
    return {};
  }

  Result<void> put(std::string_view bytes, std::uint64_t offset) {
    if (auto written = pwrite_full(file_.get(), std::as_bytes(std::span(bytes)), offset); !written)
      return with_context(std::move(written).error(), "write", path_);
    return {};
  }

  Result<void> pad(std::uint64_t size) { return write(std::string(tar_padding(size), '\0')); }

  Result<void> put_header(std::uint64_t offset, std::string_view name, TarType type, std::uint64_t size) {
    TarHeader header{};
    std::memcpy(header.name.data(), name.data(), name.size());  // at most 77 bytes
    header.type = static_cast<char>(type);
    std::memcpy(header.magic.data(), "ustar", 6);
    std::memcpy(header.version.data(), "00", 2);
    put_tar_number(header.mode, type == TarType::kDirectory ? 0755 : 0644);
    for (auto* field : {&header.uid, &header.gid, &header.device_major, &header.device_minor})
      put_tar_number(*field, 0);
    put_tar_number(header.size,
                   static_cast<std::int64_t>(size));  // base-256 above 8 GiB: every reader takes it
    put_tar_number(header.mtime, 0);
    put_tar_checksum(header);
    return put({reinterpret_cast<const char*>(&header), sizeof header}, offset);
  }

  std::string path_;
  std::string temp_;
  Fd file_;
  std::uint64_t at_ = 0;
  std::uint64_t header_at_ = 0;
  std::set<Digest> blobs_;
  bool finished_ = false;
};

}  // namespace

Result<std::unique_ptr<ImageOutput>> make_archive_writer(const std::string& path) {
  LAYERFS_ASSIGN(auto there, find_stat_at(AT_FDCWD, path, 0));
  if (there && !S_ISREG(there->st_mode)) return invalid_error("write archive", path, "not a regular file");
  std::string temp = path + ".layerfs-" + std::to_string(::getpid());
  LAYERFS_ASSIGN(Fd file, open_file(temp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0644));
  return std::make_unique<ArchiveFile>(path, std::move(temp), std::move(file));
}

}  // namespace layerfs::image
