// SPDX-License-Identifier: Apache-2.0
#include "fs/store/layout.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>

#include "fs/base/log.h"
#include "fs/base/random.h"
#include "fs/base/sys_file.h"

namespace layerfs::store {

namespace {

constexpr std::string_view kFormatPrefix = "layerfs store ";

/// Only the owner: uids inside a store are those of images, and set-uid files of images lie in it.
constexpr mode_t kDirMode = 0700;

/// Parents first. Those of objects/ come on top.
constexpr const char* kDirectories[] = {Layout::kCatalog, Layout::kObjects,    Layout::kPacks,
                                        Layout::kLayers,  Layout::kTrees,      "blobs",
                                        Layout::kBlobs,   Layout::kContainers, Layout::kTemporaries};

}  // namespace

std::string Layout::absolute(std::string_view name) const { return join_path(root_, name); }

std::string Layout::object_dir(const Digest& digest) const {
  return fmt::format("{}/{:02x}", kObjects, digest.bytes[0]);
}
std::string Layout::object(const Digest& digest) const {
  return fmt::format("{}/{:02x}/{}", kObjects, digest.bytes[0], digest.hex());
}
std::string Layout::pack(std::uint64_t id) const { return fmt::format("{}/{}", kPacks, pack_name(id)); }
std::string Layout::layer(const Digest& diff_id) const {
  return fmt::format("{}/{}", kLayers, diff_id.hex());
}
std::string Layout::tree(const Digest& chain) const { return fmt::format("{}/{}", kTrees, chain.hex()); }
std::string Layout::blob(const Digest& digest) const { return fmt::format("{}/{}", kBlobs, digest.hex()); }

Result<void> Layout::open_root() {
  LAYERFS_ASSIGN(Fd fd, open_file(root_, O_RDONLY | O_DIRECTORY));
  own_ = OwnDirectory(std::move(fd), root_);
  return {};
}

Result<bool> Layout::is_created() const {
  LAYERFS_ASSIGN(auto format, own_.find_stat(kFormat));
  return format.has_value();
}

Result<void> Layout::make_directories() {
  LAYERFS_TRY(make_dirs(root_, kDirMode));
  LAYERFS_TRY(open_root());
  LAYERFS_ASSIGN(bool created, is_created());
  if (created) return {};
  for (const char* name : kDirectories) LAYERFS_TRY(own_.make_dir(name, kDirMode));
  for (unsigned i = 0; i < 256; ++i)
    LAYERFS_TRY(own_.make_dir(fmt::format("{}/{:02x}", kObjects, i), kDirMode));
  return {};
}

Result<void> Layout::finish_creation() const {
  // Held, so that no collection takes the temporary of `format` for what a killed process left.
  LAYERFS_ASSIGN(Fd held, lease());
  // Last, so that a directory with this file has all the others; two creators write the same bytes.
  for (const char* directory : {kObjects, "blobs", kCatalog}) LAYERFS_TRY(own_.sync(directory));
  return write_version();
}

Result<void> Layout::write_version() const {
  return write_file_atomic(absolute(kFormat), fmt::format("{}{}\n", kFormatPrefix, kStoreVersion), 0600);
}

Result<void> Layout::raise_version() const {
  LAYERFS_ASSIGN(Fd held, lease());  // as in finish_creation()
  return write_version();
}

Result<void> Layout::check_directories() const {
  for (const char* name : kDirectories) LAYERFS_TRY(own_.open(name, O_PATH | O_DIRECTORY));
  return {};
}

Result<unsigned> Layout::read_version() const {
  auto text = own_.read(kFormat, 4096);
  if (!text) {
    if (text.error().code == ENOENT) return system_error(ENOENT, "open store", root_);
    return with_context(text.error(), "open store", root_);
  }
  std::string_view rest = *text;
  unsigned version = 0;
  if (rest.starts_with(kFormatPrefix)) rest.remove_prefix(kFormatPrefix.size());
  auto [end, failed] = std::from_chars(rest.data(), rest.data() + rest.size(), version);
  if (rest.size() == text->size() || failed != std::errc{} ||
      std::string_view(end, rest.data() + rest.size()) != "\n")
    return corrupt_error("open store", root_, "the file 'format' is damaged");
  if (version < kOldestStoreVersion || version > kStoreVersion)
    return unsupported_error("open store", root_,
                             fmt::format("it has version {}, this is for {}", version, kStoreVersion));
  return version;
}

Result<Fd> Layout::lease() const {
  // A descriptor of its own: flock(2) belongs to the open file, so leases of one process are independent.
  LAYERFS_ASSIGN(Fd fd, own_.open(kLock, O_RDWR | O_CREAT, 0600));
  auto locked = lock_file(fd.get(), LockMode::kShared, LockWait::kYes);
  if (!locked) return with_context(locked.error(), "lock store", root_);
  return fd;
}

std::string Layout::make_temporary_name(std::string_view what) const {
  return fmt::format("{}/{}-{}-{:016x}", kTemporaries, what, ::getpid(), random_id());
}

void Layout::drop_temporary(const std::string& path) const {
  auto removed = own_.unlink(path);
  if (!removed && removed.error().code != ENOENT) log_warning("{}", removed.error().message());
}

std::string pack_name(std::uint64_t id) { return fmt::format("{:016x}", id); }

std::optional<std::uint64_t> parse_pack_name(std::string_view name) {
  std::uint64_t id = 0;
  auto [end, failed] = std::from_chars(name.data(), name.data() + name.size(), id, 16);
  if (failed != std::errc{} || id == 0 || pack_name(id) != name) return std::nullopt;
  return id;
}

}  // namespace layerfs::store
