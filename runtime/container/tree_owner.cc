// SPDX-License-Identifier: Apache-2.0
#include "runtime/container/tree_owner.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "fs/base/fd.h"
#include "fs/base/sys_file.h"

namespace layerfs::container {

namespace {

/// Depth first, with the descriptor of one directory at a time: a tree may be deeper than there are
/// descriptors.
class TreeOwner {
 public:
  TreeOwner(int top, uid_t uid, gid_t gid) : top_(top), uid_(uid), gid_(gid) {}

  Result<void> run() {
    LAYERFS_ASSIGN(struct stat st, stat_fd(top_));
    LAYERFS_TRY(own(top_, "", st));
    if (!S_ISDIR(st.st_mode)) return {};
    LAYERFS_ASSIGN(here_, open_at(top_, ".", O_RDONLY | O_DIRECTORY));
    LAYERFS_TRY(enter({}, st));
    while (!levels_.empty())
      if (auto done = step(); !done) return with_context(done.error(), "chown", path());
    return {};
  }

 private:
  struct Level {
    std::string name;
    struct stat st;
    std::vector<std::string> names;  ///< still to be done
  };

  std::string path() const {
    std::string text = ".";
    for (const auto& level : levels_)
      if (!level.name.empty()) text = join_path(text, level.name);
    return text;
  }

  /// Of the entry `name` of a directory; empty: of `fd` itself. chown(2) takes set-id bits away.
  Result<void> own(int fd, const std::string& name, const struct stat& st) const {
    if (st.st_uid == uid_ && st.st_gid == gid_) return {};
    if (::fchownat(fd, name.c_str(), uid_, gid_, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0)
      return system_error(errno, "chown", name);
    return {};
  }

  /// `here_` is the directory's by now.
  Result<void> enter(std::string name, const struct stat& st) {
    LAYERFS_ASSIGN(auto names, list_dir_at(here_.get()));
    levels_.push_back({std::move(name), st, std::move(names)});
    return {};
  }

  Result<void> step() {
    auto& names = levels_.back().names;
    if (names.empty()) return leave();
    const std::string name = std::move(names.back());
    names.pop_back();
    LAYERFS_ASSIGN(auto st, find_stat_at(here_.get(), name, AT_SYMLINK_NOFOLLOW));
    if (!st) return {};
    LAYERFS_TRY(own(here_.get(), name, *st));
    if (!S_ISDIR(st->st_mode)) return {};
    LAYERFS_ASSIGN(here_, open_at(here_.get(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    LAYERFS_ASSIGN(struct stat entered, stat_fd(here_.get()));
    return enter(name, entered);
  }

  Result<void> leave() {
    levels_.pop_back();
    if (levels_.empty()) return {};
    LAYERFS_ASSIGN(here_, open_at(here_.get(), "..", O_RDONLY | O_DIRECTORY));
    // Whoever shares the volume may have moved the directory meanwhile, out of the volume even.
    LAYERFS_ASSIGN(struct stat st, stat_fd(here_.get()));
    const struct stat& was = levels_.back().st;
    if (st.st_dev != was.st_dev || st.st_ino != was.st_ino) return system_error(ESTALE, "");
    return {};
  }

  const int top_;
  const uid_t uid_;
  const gid_t gid_;
  Fd here_;
  std::vector<Level> levels_;
};

}  // namespace

Result<void> own_tree(int top_fd, uid_t uid, gid_t gid) { return TreeOwner(top_fd, uid, gid).run(); }

}  // namespace layerfs::container
