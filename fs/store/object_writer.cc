// SPDX-License-Identifier: Apache-2.0
#include "fs/store/object_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>
#include <unordered_map>
#include <vector>

#include "fs/base/bytes.h"
#include "fs/base/check.h"
#include "fs/base/log.h"
#include "fs/base/sha256.h"
#include "fs/base/sys_file.h"
#include "fs/store/disk_objects.h"
#include "fs/store/pack_file.h"
#include "fs/store/sparse_name.h"

namespace layerfs::store {

namespace {

constexpr std::size_t kFileBuffer = 1024 * 1024;
constexpr std::uint64_t kDiskBlock = 4096;

/// The content between begin() and end(): first in memory, then, when it is too long for a pack, in a
/// temporary file.
struct Content {
  Sha256 hash;
  std::optional<SparseNamer> namer = {};  // instead of `hash`
  std::string buffer;                     // not yet in the file
  std::uint64_t size = 0;
  std::uint64_t written = 0;  // of the file, holes included
  Fd file;
  std::string path;
};

class DiskObjectWriter final : public ObjectWriter {
 public:
  DiskObjectWriter(const Layout& layout, CatalogDb& catalog, Fd lease)
      : layout_(layout),
        catalog_(catalog),
        lease_(std::move(lease)),
        directory_(layout.make_temporary_name("objects")) {}

  ~DiskObjectWriter() override { drop_temporaries(); }

  Result<Digest> put(std::span<const std::byte> data) override {
    if (data.size() >= kPackLimit) {
      LAYERFS_TRY(begin(data.size()));
      LAYERFS_TRY(append(data));
      return end();
    }
    Digest digest = sha256(data);
    LAYERFS_ASSIGN(bool known, is_known(digest));
    if (!known) LAYERFS_TRY(add_to_pack(digest, data));
    return digest;
  }

  Result<void> begin(std::uint64_t size_hint) override {
    LAYERFS_CHECK(!content_);
    content_.emplace();
    return size_hint >= kPackLimit ? open_content_file() : Result<void>{};
  }

  Result<void> begin_sparse() override {
    LAYERFS_CHECK(!content_);
    content_.emplace();
    content_->namer.emplace();
    return open_content_file();
  }

  Result<void> append(std::span<const std::byte> data) override {
    LAYERFS_CHECK(content_.has_value());
    if (content_->namer) {
      content_->namer->data(data);
    } else {
      content_->hash.update(data);
    }
    content_->size += data.size();
    if (!content_->file && content_->size >= kPackLimit) LAYERFS_TRY(open_content_file());
    if (content_->file && content_->buffer.size() + data.size() > kFileBuffer) {
      LAYERFS_TRY(flush_content());
      if (data.size() >= kFileBuffer / 2) return write_content(data);
    }
    content_->buffer += as_text(data);
    return {};
  }

  Result<void> append_hole(std::uint64_t length) override {
    LAYERFS_CHECK(content_.has_value());
    static constexpr std::array<char, 64 * 1024> kZeros{};
    if (!content_->file && content_->size + length >= kPackLimit) LAYERFS_TRY(open_content_file());
    if (content_->namer) {
      content_->namer->hole(length);
    } else {
      for (std::uint64_t left = length; left > 0;) {
        auto piece = static_cast<std::size_t>(std::min<std::uint64_t>(left, kZeros.size()));
        content_->hash.update(std::string_view(kZeros.data(), piece));
        left -= piece;
      }
    }
    content_->size += length;
    // A hole of less than a block is none on any disk; a write(2) for each of a million would only take time.
    if (!content_->file || (length < kDiskBlock && content_->buffer.size() + length <= kFileBuffer)) {
      content_->buffer.append(length, '\0');
      return {};
    }
    LAYERFS_TRY(flush_content());
    content_->written += length;  // the next write, or end(), leaves the gap unallocated
    return {};
  }

  Result<Digest> end() override {
    LAYERFS_CHECK(content_.has_value());
    Digest digest = content_->namer ? content_->namer->finish() : content_->hash.finish();
    LAYERFS_ASSIGN(bool known, is_known(digest));
    if (content_->file) {
      if (known) {
        content_->file.reset();
        LAYERFS_TRY(layout_.own().unlink(content_->path));
      } else {
        LAYERFS_TRY(keep_content_file(digest));
      }
    } else if (!known) {
      LAYERFS_TRY(add_to_pack(digest, as_bytes(content_->buffer)));
    }
    content_.reset();
    return digest;
  }

  Result<void> finish() override {
    LAYERFS_CHECK(!content_);
    LAYERFS_TRY(sync_contents());
    LAYERFS_TRY(give_names());
    LAYERFS_TRY(name_in_catalog());
    objects_.clear();
    packs_.clear();
    drop_temporaries();
    return {};
  }

 private:
  struct Placed {
    std::uint64_t pack_index = 0;  // in packs_, from 1; 0: a file
    std::uint64_t offset = 0;      // in the pack; for a file, the number in its name
    std::uint64_t size = 0;
    bool sparse_form = false;
  };

  std::string file_path(std::uint64_t number) const { return join_path(directory_, std::to_string(number)); }

  Result<bool> is_known(const Digest& digest) const {
    if (objects_.contains(digest)) return true;
    LAYERFS_ASSIGN(auto location, catalog_.find_object(digest));
    return location.has_value();
  }

  Result<void> make_directory() {
    if (has_directory_) return {};
    LAYERFS_TRY(layout_.own().make_dir(directory_, 0700));
    has_directory_ = true;
    return {};
  }

  Result<void> add_to_pack(const Digest& digest, std::span<const std::byte> data) {
    if (packs_.empty() || packs_.back().size() + data.size() > kPackSize) {
      LAYERFS_TRY(make_directory());
      if (!packs_.empty()) LAYERFS_TRY(packs_.back().flush());
      LAYERFS_ASSIGN(
          PackFile pack,
          PackFile::create(layout_.own(), join_path(directory_, "pack" + std::to_string(packs_.size()))));
      packs_.push_back(std::move(pack));
    }
    LAYERFS_ASSIGN(std::uint64_t offset, packs_.back().append(data));
    objects_.emplace(digest, Placed{packs_.size(), offset, data.size(), false});
    return {};
  }

  Result<void> open_content_file() {
    LAYERFS_TRY(make_directory());
    content_->path = file_path(next_file_);
    LAYERFS_ASSIGN(content_->file, layout_.own().open(content_->path, O_WRONLY | O_CREAT | O_EXCL, 0600));
    return {};
  }

  Result<void> write_content(std::span<const std::byte> data) {
    auto written = pwrite_full(content_->file.get(), data, content_->written);
    if (!written) return with_context(written.error(), "write object");
    content_->written += data.size();
    return {};
  }

  Result<void> flush_content() {
    LAYERFS_TRY(write_content(as_bytes(content_->buffer)));
    content_->buffer.clear();
    return {};
  }

  Result<void> keep_content_file(const Digest& digest) {
    LAYERFS_TRY(flush_content());
    LAYERFS_ASSIGN(struct stat st, stat_fd(content_->file.get()));
    if (static_cast<std::uint64_t>(st.st_size) != content_->size &&
        ::ftruncate(content_->file.get(), static_cast<off_t>(content_->size)) != 0)
      return system_error(errno, "extend object", digest.str());
    start_writeback(content_->file.get(), 0, content_->size);
    // It only saves the look at the bytes when the file is opened.
    if (auto marked = mark_unchanged(content_->file.get()); !marked)
      log_debug("{}", marked.error().message());
    content_->file.reset();
    objects_.emplace(digest, Placed{0, next_file_++, content_->size, content_->namer.has_value()});
    return {};
  }

  /// Everything is on disk under its temporary name.
  Result<void> sync_contents() {
    BulkSync sync(layout_);
    for (auto& pack : packs_) {
      LAYERFS_TRY(pack.push());
      sync.add(pack.path());
    }
    for (const auto& [digest, placed] : objects_)
      if (placed.pack_index == 0) sync.add(file_path(placed.offset));
    return sync.run();
  }

  /// Packs and files get their names, durably. They mean nothing yet: the catalog does not have them. A file
  /// may replace another writer's of the same content: both are whole and on disk.
  Result<void> give_names() {
    BulkSync sync(layout_);
    for (const auto& pack : packs_) LAYERFS_TRY(layout_.own().rename(pack.path(), layout_.pack(pack.id())));
    if (!packs_.empty()) sync.add(Layout::kPacks);
    std::array<bool, 256> touched{};
    for (const auto& [digest, placed] : objects_) {
      if (placed.pack_index != 0) continue;
      LAYERFS_TRY(layout_.own().rename(file_path(placed.offset), layout_.object(digest)));
      if (!std::exchange(touched[digest.bytes[0]], true)) sync.add(layout_.object_dir(digest));
    }
    return sync.run();
  }

  Result<void> name_in_catalog() {
    std::vector<ObjectRow> rows;
    rows.reserve(objects_.size());
    for (const auto& [digest, placed] : objects_) {
      ObjectLocation location{0, placed.sparse_form ? kSparseForm : 0, placed.size};
      if (placed.pack_index != 0) location = {packs_[placed.pack_index - 1].id(), placed.offset, placed.size};
      rows.push_back({digest, location});
    }
    std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.digest < b.digest; });
    std::vector<bool> kept;
    if (auto added = catalog_.add_objects(rows, kept); !added)
      return with_context(added.error(), "name objects");
    drop_unused_packs(rows, kept);
    return {};
  }

  /// Another writer may have named every content of a pack first. gc would find such a pack too.
  void drop_unused_packs(const std::vector<ObjectRow>& rows, const std::vector<bool>& kept) {
    for (const auto& pack : packs_) {
      bool used = false;
      for (std::size_t i = 0; i < rows.size() && !used; ++i)
        used = kept[i] && rows[i].location.pack == pack.id();
      if (used) continue;
      if (auto removed = layout_.own().unlink(layout_.pack(pack.id())); !removed)
        log_warning("{}", removed.error().message());
    }
  }

  void drop_temporaries() {
    if (!has_directory_) return;
    if (auto removed = layout_.own().remove(directory_); !removed)
      log_warning("{}", removed.error().message());
    has_directory_ = false;
  }

  const Layout& layout_;
  CatalogDb& catalog_;
  Fd lease_;
  std::string directory_;
  bool has_directory_ = false;
  std::unordered_map<Digest, Placed> objects_;
  std::vector<PackFile> packs_;
  std::uint64_t next_file_ = 0;
  std::optional<Content> content_;
};

}  // namespace

Result<std::unique_ptr<ObjectWriter>> make_object_writer(const Layout& layout, CatalogDb& catalog) {
  LAYERFS_ASSIGN(Fd lease, layout.lease());
  return std::make_unique<DiskObjectWriter>(layout, catalog, std::move(lease));
}

}  // namespace layerfs::store
