// SPDX-License-Identifier: Apache-2.0
#include "fs/image/source_files.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <map>
#include <vector>

#include "fs/base/sys_file.h"
#include "fs/image/decompress.h"
#include "fs/image/layer_import.h"
#include "fs/image/tar_reader.h"
#include "fs/image/whiteout_name.h"
#include "fs/tree/node.h"

namespace layerfs::image {

namespace {

/// An archive of an image has a handful of members a layer.
constexpr std::size_t kMaxMembers = 100'000;
constexpr int kMaxLinks = 16;

class DirectoryFiles final : public SourceFiles {
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

class ArchiveFiles final : public SourceFiles {
 public:
  /// Reads the headers off `chunks`, the archive's bytes. Ranges are given once set_file() has said what they
  /// are of.
  Result<void> index(ChunkSource& chunks) {
    TarReader reader(chunks, {}, TarEnd::kMarked);
    for (;;) {
      LAYERFS_ASSIGN(bool more, reader.next());
      if (!more) return {};
      const TarMember& member = reader.member();
      // No manifest names such a member.
      if (member.name.size() > tree::kMaxPath || member.link.size() > tree::kMaxPath) continue;
      auto name = resolve_name("", member.name);
      if (!name || name->empty()) continue;
      if (members_.size() >= kMaxMembers)
        return invalid_error("archive", {}, fmt::format("more than {} members", kMaxMembers));
      Member& entry = members_[*name];
      entry = Member{};
      if (member.type == TarType::kRegular && !member.is_sparse) {
        entry.range = FileRange{nullptr, reader.position(), member.size};
      } else if (member.type == TarType::kSymlink || member.type == TarType::kHardLink) {
        entry.link = resolve_name(member.type == TarType::kHardLink ? "" : parent_of(*name), member.link);
      }
    }
  }

  /// `archive`: the plain bytes that were indexed. Errors: kCorrupt where a member goes beyond them.
  Result<void> set_file(const FileRange& archive) {
    for (auto& [name, member] : members_) {
      if (!member.range) continue;
      std::uint64_t at = member.range->offset;
      if (member.range->size > archive.size - std::min(archive.size, at))
        return corrupt_error("archive member", shown_name(name), "truncated");
      member.range = FileRange{archive.file, archive.offset + at, member.range->size};
    }
    return {};
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

/// Counts what is read of it.
class CountedSource final : public ByteSource {
 public:
  explicit CountedSource(ByteSource& source) : source_(source) {}
  Result<std::size_t> read(std::span<std::byte> buffer) override {
    LAYERFS_ASSIGN(std::size_t got, source_.read(buffer));
    total_ += got;
    return got;
  }
  std::uint64_t total() const { return total_; }

 private:
  ByteSource& source_;
  std::uint64_t total_ = 0;
};

/// Plain bytes as chunks, each of which is written to a file first: what is no archive is seen at its first
/// block, not when it has filled the disk.
class SpoolChunks final : public ChunkSource {
 public:
  SpoolChunks(ByteSource& plain, const CountedSource& compressed, Codec codec, int fd,
              const ImportLimits& limits)
      : plain_(plain),
        compressed_(compressed),
        codec_(codec),
        fd_(fd),
        limits_(limits),
        buffer_(std::size_t{256} << 10) {}

  Result<std::span<const std::byte>> next() override {
    LAYERFS_ASSIGN(std::size_t got, plain_.read(buffer_));
    size_ += got;
    LAYERFS_TRY(check_expansion("archive size", size_, codec_ == Codec::kPlain ? size_ : compressed_.total(),
                                limits_));
    std::span<const std::byte> piece = std::span(buffer_).first(got);
    LAYERFS_TRY(write_full(fd_, piece));
    return piece;
  }
  std::uint64_t size() const { return size_; }

 private:
  ByteSource& plain_;
  const CountedSource& compressed_;
  Codec codec_;
  int fd_;
  const ImportLimits& limits_;
  std::vector<std::byte> buffer_;
  std::uint64_t size_ = 0;
};

Result<void> index_archive(const std::string& path, const std::string& spool_dir, const ImportLimits& limits,
                           ArchiveFiles& files) {
  LAYERFS_ASSIGN(Fd fd, open_file(path, O_RDONLY));
  LAYERFS_ASSIGN(struct stat st, stat_fd(fd.get()));
  if (S_ISDIR(st.st_mode)) return invalid_error("archive", path, "is a directory");
  FileRange range{std::make_shared<const Fd>(std::move(fd)), 0, static_cast<std::uint64_t>(st.st_size)};
  RangeSource file(range);
  StreamSource stream(range.file->get());
  bool is_file = S_ISREG(st.st_mode);
  CountedSource counted(is_file ? static_cast<ByteSource&>(file) : stream);
  PeekSource peeked(counted);
  LAYERFS_ASSIGN(std::string_view head, peeked.peek());
  LAYERFS_ASSIGN(Codec codec, detect_codec(head));
  if (is_file && codec == Codec::kPlain) {
    RangeChunks chunks(range);
    LAYERFS_TRY(files.index(chunks));
    return files.set_file(range);
  }
  LAYERFS_ASSIGN(auto plain, make_decompressor(peeked, codec, {.window = limits.zstd_window}));
  LAYERFS_ASSIGN(Fd spool, open_unnamed(spool_dir, 0600));
  SpoolChunks chunks(*plain, counted, codec, spool.get(), limits);
  LAYERFS_TRY(files.index(chunks));
  return files.set_file(FileRange{std::make_shared<const Fd>(std::move(spool)), 0, chunks.size()});
}

}  // namespace

Result<std::unique_ptr<SourceFiles>> open_directory_files(const std::string& path) {
  LAYERFS_ASSIGN(Fd root, open_file(path, O_RDONLY | O_DIRECTORY));
  return std::make_unique<DirectoryFiles>(std::move(root));
}

Result<std::unique_ptr<SourceFiles>> open_archive_files(const std::string& path, const std::string& spool_dir,
                                                        const ImportLimits& limits) {
  auto files = std::make_unique<ArchiveFiles>();
  if (auto indexed = index_archive(path, spool_dir, limits, *files); !indexed)
    return with_context(indexed.error(), "read archive", path);
  return files;
}

Result<std::string> get_text(const SourceFiles& files, const std::string& path, std::uint64_t limit) {
  LAYERFS_ASSIGN(auto range, files.find(path));
  if (!range) return system_error(ENOENT, "read", path);
  auto text = read_range(*range, limit);
  if (!text) return with_context(text.error(), "read", path);
  return text;
}

}  // namespace layerfs::image
