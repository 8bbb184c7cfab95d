// SPDX-License-Identifier: Apache-2.0
#include "fs/image/image_files.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <map>
#include <vector>

#include "fs/base/sys_file.h"
#include "fs/image/decompress.h"
#include "fs/image/tar_reader.h"
#include "fs/image/whiteout_name.h"

namespace layerfs::image {

namespace {

/// An archive of an image has a handful of members a layer.
constexpr std::size_t kMaxMembers = 100'000;
constexpr int kMaxLinks = 16;

class DirectoryFiles final : public ImageFiles {
 public:
  explicit DirectoryFiles(Fd root) : root_(std::move(root)) {}

  Result<std::optional<FileRange>> find(const std::string& path) const override {
    // O_NONBLOCK: a fifo in the place of a blob must not make us wait.
    auto fd = open_in_root(root_.get(), path, O_RDONLY | O_NONBLOCK);
    if (!fd && (fd.error().code == ENOENT || fd.error().code == ENOTDIR)) return std::nullopt;
    if (!fd) return std::unexpected(fd.error());
    LAYERFS_ASSIGN(struct stat st, stat_fd(fd->get()));
    if (!S_ISREG(st.st_mode)) return invalid_error("open", path, "not a regular file");
    return FileRange{std::make_shared<const Fd>(std::move(*fd)), 0, static_cast<std::uint64_t>(st.st_size)};
  }

 private:
  Fd root_;
};

/// A range as chunks; what is skipped is never read.
class RangeChunks final : public ChunkSource {
 public:
  explicit RangeChunks(FileRange range) : range_(std::move(range)), buffer_(16 * 1024) {}

  Result<std::span<const std::byte>> next() override {
    std::uint64_t left = range_.size - at_;
    auto piece =
        std::span(buffer_).first(static_cast<std::size_t>(std::min<std::uint64_t>(left, buffer_.size())));
    LAYERFS_ASSIGN(std::size_t got, pread_full(range_.file->get(), piece, range_.offset + at_));
    at_ += got;
    return std::span<const std::byte>(piece.first(got));
  }
  Result<std::uint64_t> skip(std::uint64_t size) override {
    std::uint64_t skipped = std::min(size, range_.size - at_);
    at_ += skipped;
    return skipped;
  }

 private:
  FileRange range_;
  std::uint64_t at_ = 0;
  std::vector<std::byte> buffer_;
};

/// "a/../b" among an archive's members, without leaving it. nullopt: it would.
std::optional<std::string> resolve_name(std::string_view base, std::string_view target) {
  std::vector<std::string_view> parts;
  auto add = [&](std::string_view path) {
    while (!path.empty()) {
      std::size_t slash = std::min(path.find('/'), path.size());
      std::string_view part = path.substr(0, slash);
      path.remove_prefix(std::min(slash + 1, path.size()));
      if (part.empty() || part == ".") continue;
      if (part != "..") {
        parts.push_back(part);
      } else if (parts.empty()) {
        return false;
      } else {
        parts.pop_back();
      }
    }
    return true;
  };
  if (!target.starts_with('/') && !add(base)) return std::nullopt;
  if (!add(target)) return std::nullopt;
  std::string name;
  for (std::string_view part : parts) {
    if (!name.empty()) name += '/';
    name += part;
  }
  return name;
}

class ArchiveFiles final : public ImageFiles {
 public:
  Result<void> index(const FileRange& archive) {
    RangeChunks chunks(archive);
    TarReader reader(chunks, {}, TarEnd::kMarked);
    for (;;) {
      LAYERFS_ASSIGN(bool more, reader.next());
      if (!more) return {};
      const TarMember& member = reader.member();
      auto name = resolve_name("", member.name);
      if (!name || name->empty()) continue;  // nothing that a manifest can name
      if (members_.size() >= kMaxMembers)
        return invalid_error("archive", {}, fmt::format("more than {} members", kMaxMembers));
      Member& entry = members_[*name];
      entry = Member{};
      if (member.type == TarType::kRegular && !member.is_sparse) {
        entry.range = FileRange{archive.file, archive.offset + reader.position(), member.size};
        if (member.size > archive.size - std::min(archive.size, reader.position()))
          return corrupt_error("archive member", shown_name(member.name), "truncated");
      } else if (member.type == TarType::kSymlink || member.type == TarType::kHardLink) {
        entry.link = resolve_name(member.type == TarType::kHardLink ? "" : parent_of(*name), member.link);
      }
    }
  }

  Result<std::optional<FileRange>> find(const std::string& path) const override {
    auto name = resolve_name("", path);
    for (int links = 0; name && links <= kMaxLinks; ++links) {
      auto found = members_.find(*name);
      if (found == members_.end()) return std::nullopt;
      if (found->second.range) return *found->second.range;
      if (!found->second.link) break;
      name = found->second.link;
    }
    return invalid_error("archive member", shown_name(path), "not a regular file");
  }

 private:
  struct Member {
    std::optional<FileRange> range;
    std::optional<std::string> link;
  };
  static std::string_view parent_of(std::string_view name) {
    std::size_t slash = name.rfind('/');
    return slash == std::string_view::npos ? std::string_view() : name.substr(0, slash);
  }
  std::map<std::string, Member> members_;
};

Result<FileRange> spool(ByteSource& source, const std::string& dir, std::uint64_t limit) {
  LAYERFS_ASSIGN(Fd fd, open_unnamed(dir, 0600));
  std::vector<std::byte> buffer(std::size_t{1} << 20);
  std::uint64_t size = 0;
  for (;;) {
    LAYERFS_ASSIGN(std::size_t got, source.read(buffer));
    if (got == 0) break;
    size += got;
    if (size > limit)
      return invalid_error("archive size", fmt::format("{}", size),
                           fmt::format("more than {} bytes (the limit can be raised)", limit));
    LAYERFS_TRY(write_full(fd.get(), std::span(buffer).first(got)));
  }
  return FileRange{std::make_shared<const Fd>(std::move(fd)), 0, size};
}

Result<FileRange> open_archive(const std::string& path, const std::string& spool_dir, std::uint64_t limit) {
  LAYERFS_ASSIGN(Fd fd, open_file(path, O_RDONLY));
  LAYERFS_ASSIGN(struct stat st, stat_fd(fd.get()));
  if (S_ISDIR(st.st_mode)) return invalid_error("archive", path, "is a directory");
  if (!S_ISREG(st.st_mode)) {
    StreamSource stream(fd.get());
    PeekSource peeked(stream);
    LAYERFS_ASSIGN(std::string_view head, peeked.peek());
    LAYERFS_ASSIGN(Codec codec, detect_codec(head));
    LAYERFS_ASSIGN(auto plain, make_decompressor(peeked, codec));
    return spool(*plain, spool_dir, limit);
  }
  FileRange range{std::make_shared<const Fd>(std::move(fd)), 0, static_cast<std::uint64_t>(st.st_size)};
  RangeSource source(range);
  PeekSource peeked(source);
  LAYERFS_ASSIGN(std::string_view head, peeked.peek());
  LAYERFS_ASSIGN(Codec codec, detect_codec(head));
  if (codec == Codec::kPlain) return range;
  LAYERFS_ASSIGN(auto plain, make_decompressor(peeked, codec));
  return spool(*plain, spool_dir, limit);
}

}  // namespace

Result<std::unique_ptr<ImageFiles>> open_directory_files(const std::string& path) {
  LAYERFS_ASSIGN(Fd root, open_file(path, O_RDONLY | O_DIRECTORY));
  return std::make_unique<DirectoryFiles>(std::move(root));
}

Result<std::unique_ptr<ImageFiles>> open_archive_files(const std::string& path, const std::string& spool_dir,
                                                       std::uint64_t spool_limit) {
  auto archive = open_archive(path, spool_dir, spool_limit);
  if (!archive) return with_context(archive.error(), "read archive", path);
  auto files = std::make_unique<ArchiveFiles>();
  if (auto indexed = files->index(*archive); !indexed)
    return with_context(indexed.error(), "read archive", path);
  return files;
}

Result<std::string> get_text(const ImageFiles& files, const std::string& path, std::uint64_t limit) {
  LAYERFS_ASSIGN(auto range, files.find(path));
  if (!range) return system_error(ENOENT, "read", path);
  auto text = read_range(*range, limit);
  if (!text) return with_context(text.error(), "read", path);
  return text;
}

}  // namespace layerfs::image
