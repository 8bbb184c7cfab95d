// SPDX-License-Identifier: Apache-2.0
#include "fs/image/file_content.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "fs/base/bytes.h"
#include "fs/base/sys_file.h"
#include "fs/tree/content_parts.h"

namespace layerfs::image {

namespace {

constexpr std::size_t kBuffer = std::size_t{1} << 20;

bool all_zero(std::span<const std::byte> bytes) {
  return bytes.empty() ||
         (bytes[0] == std::byte{0} && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

/// Gathers runs of data from units that come in ascending order.
class RunFinder {
 public:
  explicit RunFinder(std::uint64_t size) : size_(size) {}

  /// [offset, offset + length) has a byte that is not zero.
  void add_data(std::uint64_t offset, std::uint64_t length) {
    if (!runs_.empty() && offset - end() < kHoleBytes) {
      data_ += offset + length - end();
      runs_.back().length = offset + length - runs_.back().offset;
    } else {
      // Zeros at the very start that are too few for a hole belong to the first run.
      std::uint64_t start = runs_.empty() && offset < kHoleBytes ? 0 : offset;
      runs_.push_back({start, offset + length - start});
      data_ += offset + length - start;
    }
  }
  bool too_dense() const { return data_ > size_ / 2; }

  std::vector<DataRun> finish() {
    if (!runs_.empty() && size_ - end() < kHoleBytes) {
      data_ += size_ - end();
      runs_.back().length = size_ - runs_.back().offset;
    }
    if (too_dense()) return {};
    if (runs_.empty()) runs_.push_back({size_, 0});
    return std::move(runs_);
  }

 private:
  std::uint64_t end() const { return runs_.back().offset + runs_.back().length; }

  std::uint64_t size_;
  std::uint64_t data_ = 0;
  std::vector<DataRun> runs_;
};

}  // namespace

void FileContent::append(ContentPiece piece) {
  if (piece.size == 0) return;
  starts_.push_back(size_);
  size_ += piece.size;
  pieces_.push_back(std::move(piece));
}

Result<void> FileContent::add_blob(const Digest& digest, std::uint64_t offset, std::uint64_t size,
                                   const tree::BlobSource& blobs) {
  if (size == 0) return {};
  if (!object_.file || verified_ != digest) {
    auto blob = blobs.open(digest);
    if (!blob) return with_context(std::move(blob).error(), "object", digest.str());
    // What goes into an archive goes by another name there: nobody could tell later that it is damaged.
    LAYERFS_TRY(blobs.verify(digest));
    object_ = std::move(*blob);
    verified_ = digest;
  }
  if (object_.size < offset + size)
    return corrupt_error("object", digest.str(), "shorter than the file that has it");
  append({.file = object_.file, .offset = object_.offset + offset, .size = size});
  return {};
}

FileContent FileContent::of_file(std::shared_ptr<const Fd> file, std::uint64_t size) {
  FileContent content;
  content.append({.file = std::move(file), .offset = 0, .size = size});
  return content;
}

Result<FileContent> FileContent::of_node(tree::Ino ino, const tree::Node& node, const tree::OverTree& tree,
                                         const tree::BlobSource& blobs) {
  FileContent content;
  tree::DataPlace data;
  const auto add = [&](const tree::ContentPart& part) -> Result<void> {
    switch (part.source) {
      case tree::ContentSource::kHole: content.append({.size = part.size}); break;
      case tree::ContentSource::kInline: {
        LAYERFS_ASSIGN(std::string text, tree.get_inline(ino));
        if (text.size() != part.size)
          return corrupt_error("read", "inline content", "its size is not the node's");
        content.append({.size = part.size, .text = std::move(text)});
        break;
      }
      case tree::ContentSource::kObject: return content.add_blob(node.object, part.offset, part.size, blobs);
      case tree::ContentSource::kData:
        if (!data.file) {
          LAYERFS_ASSIGN(data, tree::open_content(*tree.above(), ino, node));
        }
        content.append(
            {.file = data.file, .offset = data.offset + part.offset, .size = part.size, .may_end = true});
        break;
    }
    return {};
  };
  LAYERFS_TRY(tree::visit_content(tree.above(), ino, node, 0, node.size, add));
  return content;
}

/// Fills `buffer` from `offset` of the file; all of it lies inside.
Result<void> FileContent::read_at(std::uint64_t offset, std::span<std::byte> buffer) const {
  auto at =
      static_cast<std::size_t>(std::upper_bound(starts_.begin(), starts_.end(), offset) - starts_.begin()) -
      1;
  while (!buffer.empty()) {
    const ContentPiece& piece = pieces_[at];
    std::uint64_t inside = offset - starts_[at];
    auto part =
        buffer.first(static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), piece.size - inside)));
    if (piece.file) {
      LAYERFS_ASSIGN(std::size_t got, pread_full(piece.file->get(), part, piece.offset + inside));
      if (got < part.size() && !piece.may_end) return corrupt_error("read", "object", "cut short");
      std::fill(part.begin() + static_cast<std::ptrdiff_t>(got), part.end(), std::byte{0});
    } else if (!piece.text.empty()) {
      std::memcpy(part.data(), piece.text.data() + inside, part.size());
    } else {
      std::fill(part.begin(), part.end(), std::byte{0});
    }
    offset += part.size();
    buffer = buffer.subspan(part.size());
    ++at;
  }
  return {};
}

/// The first offset at or after `offset` that is not known to be in a hole; size() where there is none.
Result<std::uint64_t> FileContent::next_data(std::uint64_t offset) const {
  auto at =
      static_cast<std::size_t>(std::upper_bound(starts_.begin(), starts_.end(), offset) - starts_.begin()) -
      1;
  for (; at < pieces_.size(); ++at) {
    const ContentPiece& piece = pieces_[at];
    offset = std::max(offset, starts_[at]);
    if (!piece.text.empty()) return offset;
    if (!piece.file) continue;
    std::uint64_t inside = offset - starts_[at];
    off_t found = ::lseek(piece.file->get(), static_cast<off_t>(piece.offset + inside), SEEK_DATA);
    if (found < 0 && errno == ENXIO) continue;  // zeros to the end of the file, if it reaches that far
    if (found < 0) return offset;               // a file system that has no SEEK_DATA: everything may be data
    std::uint64_t data = static_cast<std::uint64_t>(found) - piece.offset;
    if (data < piece.size) return starts_[at] + data;
  }
  return size_;
}

Result<std::vector<DataRun>> FileContent::find_runs() const {
  if (size_ < kSparseLimit) return std::vector<DataRun>{};
  RunFinder finder(size_);
  std::vector<std::byte> buffer(kBuffer);
  for (std::uint64_t offset = 0; offset < size_;) {
    LAYERFS_ASSIGN(std::uint64_t data, next_data(offset));
    offset = data / kHoleUnit * kHoleUnit;
    if (data == size_) break;
    auto part =
        std::span(buffer).first(static_cast<std::size_t>(std::min<std::uint64_t>(kBuffer, size_ - offset)));
    LAYERFS_TRY(read_at(offset, part));
    for (std::size_t i = 0; i < part.size(); i += kHoleUnit) {
      auto unit = part.subspan(i, std::min<std::size_t>(kHoleUnit, part.size() - i));
      if (!all_zero(unit)) finder.add_data(offset + i, unit.size());
    }
    if (finder.too_dense()) return std::vector<DataRun>{};
    offset += part.size();
  }
  return finder.finish();
}

Result<void> FileContent::write(const std::vector<DataRun>& runs, const ByteSink& sink) const {
  const std::vector<DataRun> all = {{0, size_}};
  std::vector<std::byte> buffer;
  for (const auto& run : runs.empty() ? all : runs) {
    for (std::uint64_t done = 0; done < run.length;) {
      std::size_t length = static_cast<std::size_t>(std::min<std::uint64_t>(kBuffer, run.length - done));
      if (buffer.size() < length) buffer.resize(length);
      auto part = std::span(buffer).first(length);
      LAYERFS_TRY(read_at(run.offset + done, part));
      LAYERFS_TRY(sink(as_text(part)));
      done += length;
    }
  }
  return {};
}

}  // namespace layerfs::image
