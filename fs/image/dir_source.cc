// SPDX-License-Identifier: Apache-2.0
#include "fs/image/dir_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "fs/base/log.h"
#include "fs/base/sys_file.h"
#include "fs/image/file_content.h"
#include "fs/image/tar_writer.h"
#include "fs/image/whiteout_name.h"
#include "fs/tree/node.h"

namespace layerfs::image {

namespace {

tree::Node node_of(const struct stat& st) {
  tree::Node node;
  node.kind = tree::from_file_type(st.st_mode);
  node.mode = static_cast<std::uint16_t>(st.st_mode & 07777);
  node.uid = tree::Uid{st.st_uid};
  node.gid = tree::Gid{st.st_gid};
  node.mtime = {st.st_mtim.tv_sec, static_cast<std::uint32_t>(st.st_mtim.tv_nsec)};
  if (S_ISREG(st.st_mode)) node.size = static_cast<std::uint64_t>(st.st_size);
  if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) node.rdev = st.st_rdev;
  return node;
}

Result<tree::XattrList> xattrs_of(int fd) {
  LAYERFS_ASSIGN(auto names, list_xattrs_fd(fd));
  std::ranges::sort(names);
  tree::XattrList xattrs;
  for (const auto& name : names) {
    if (name == "security.selinux") continue;
    LAYERFS_ASSIGN(auto value, find_xattr_fd(fd, name));
    if (value) xattrs.emplace_back(name, std::move(*value));
  }
  return xattrs;
}

Result<std::string> link_text(int fd, std::size_t size_hint) {
  std::string text(std::max<std::size_t>(size_hint, 4095) + 1, '\0');
  ssize_t size = ::readlinkat(fd, "", text.data(), text.size());
  if (size < 0) return system_error(errno, "read link");
  text.resize(static_cast<std::size_t>(size));
  return text;
}

class DirectoryWalk {
 public:
  explicit DirectoryWalk(const ByteSink& sink) : writer_(sink) {}

  Result<void> run(const std::string& path) {
    LAYERFS_ASSIGN(Fd root, open_file(path, O_RDONLY | O_DIRECTORY));
    LAYERFS_TRY(add_directory(root.get(), ""));
    return writer_.finish();
  }

 private:
  // One level of recursion is one directory level: bounded by the length of a path.
  Result<void> add_directory(int fd, const std::string& path) {
    TarEntry entry;
    entry.path = path;
    LAYERFS_ASSIGN(struct stat st, stat_fd(fd));
    entry.node = node_of(st);
    LAYERFS_ASSIGN(entry.xattrs, xattrs_of(fd));
    LAYERFS_TRY(writer_.add(entry));
    LAYERFS_ASSIGN(auto names, list_dir_at(fd));
    std::ranges::sort(names);
    for (const auto& name : names) {
      std::string child = path.empty() ? name : path + "/" + name;
      if (auto added = add_child(fd, name, child); !added) return added;
    }
    return {};
  }

  Result<void> add_child(int dir_fd, const std::string& name, const std::string& path) {
    auto named = [&](const Error& error) { return with_context(error, "add", shown_name(path)); };
    if (is_whiteout_name(name))
      return invalid_error("add", shown_name(path), "a name that reads as a whiteout");
    if (path.size() > tree::kMaxPath)
      return invalid_error("add", shown_name(path), "a path above 4095 bytes");
    // O_PATH first: opening a device or a fifo for reading may do things, or wait.
    LAYERFS_ASSIGN(Fd handle, open_at(dir_fd, name, O_PATH | O_NOFOLLOW));
    LAYERFS_ASSIGN(struct stat st, stat_fd(handle.get()));
    if (S_ISSOCK(st.st_mode)) {
      log_warning("'{}' is a socket and left out", shown_name(path));
      return {};
    }
    if (S_ISDIR(st.st_mode)) {
      auto fd = open_at(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      if (!fd) return named(fd.error());
      return add_directory(fd->get(), path);
    }
    if (auto added = add_leaf(dir_fd, name, path, handle.get(), st); !added) return named(added.error());
    return {};
  }

  Result<void> add_leaf(int dir_fd, const std::string& name, const std::string& path, int handle,
                        const struct stat& st) {
    TarEntry entry;
    entry.path = path;
    entry.node = node_of(st);
    if (st.st_nlink > 1) {
      auto [first, added] = links_.try_emplace({st.st_dev, st.st_ino}, path);
      if (!added) {
        entry.hard_link = first->second;
        return writer_.add(entry);
      }
    }
    LAYERFS_ASSIGN(entry.xattrs, xattrs_of(handle));
    if (S_ISLNK(st.st_mode)) {
      LAYERFS_ASSIGN(entry.symlink, link_text(handle, static_cast<std::size_t>(st.st_size)));
      entry.node.size = entry.symlink.size();
    }
    if (!S_ISREG(st.st_mode)) return writer_.add(entry);

    LAYERFS_ASSIGN(Fd fd, open_at(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
    LAYERFS_ASSIGN(struct stat now, stat_fd(fd.get()));
    if (now.st_dev != st.st_dev || now.st_ino != st.st_ino)
      return invalid_error("read", {}, "replaced while it was read");
    entry.node.size = static_cast<std::uint64_t>(now.st_size);
    auto content = FileContent::of_file(std::make_shared<const Fd>(std::move(fd)), entry.node.size);
    LAYERFS_ASSIGN(entry.runs, content.find_runs());
    LAYERFS_TRY(writer_.add(entry));
    return content.write(entry.runs, [this](std::string_view bytes) { return writer_.write(bytes); });
  }

  TarWriter writer_;
  std::map<std::pair<dev_t, ino_t>, std::string> links_;
};

}  // namespace

Result<void> write_directory_tar(const std::string& path, const ByteSink& sink) {
  auto written = DirectoryWalk(sink).run(path);
  if (!written && written.error().code != ECANCELED)
    return with_context(written.error(), "read directory", path);
  return written;
}

}  // namespace layerfs::image
