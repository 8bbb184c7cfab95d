// SPDX-License-Identifier: Apache-2.0
#include "fs/store/disk_layers.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <optional>

#include "fs/base/check.h"
#include "fs/base/log.h"
#include "fs/base/sys_file.h"
#include "fs/store/block_file.h"
#include "fs/store/format.h"
#include "fs/store/layer_frames.h"

namespace layerfs::store {

namespace {

/// Raw bytes are gathered up to this length: tar headers of neighbouring entries become one frame.
constexpr std::size_t kRawFrame = 32 * 1024;

std::string encode_footer(const LayerInfo& info, std::uint64_t items) {
  std::string bytes;
  append_digest(bytes, info.diff_id);
  for (std::uint64_t value : {info.tar_bytes, info.content_bytes, info.entries, items})
    append_varint(bytes, value);
  return bytes;
}

struct Footer {
  LayerInfo info;
  std::uint64_t items = 0;
};
std::optional<Footer> decode_footer(std::string_view bytes) {
  ByteReader from(bytes);
  Footer footer;
  footer.info.diff_id = take_digest(from);
  footer.info.tar_bytes = take_varint(from);
  footer.info.content_bytes = take_varint(from);
  footer.info.entries = take_varint(from);
  footer.items = take_varint(from);
  if (!from.done()) return std::nullopt;
  return footer;
}

class LayerFilesWriter final : public LayerWriter {
 public:
  LayerFilesWriter(const Layout& layout, Fd lease, std::string directory, BlockWriter records,
                   BlockWriter framing)
      : layout_(layout),
        lease_(std::move(lease)),
        directory_(std::move(directory)),
        records_(std::move(records)),
        framing_(std::move(framing)) {}

  ~LayerFilesWriter() override {
    if (published_) return;
    if (auto removed = layout_.own().remove(directory_); !removed)
      log_warning("{}", removed.error().message());
  }

  Result<void> add_record(const tree::LayerRecord& record) override {
    if (!is_normalised_path(record.path))
      return invalid_error("store entry", record.path, "the path is not one that a layer may have");
    item_.clear();
    append_record(item_, record);
    ++record_count_;
    return named(records_.add(item_));
  }

  Result<void> add_raw(std::string_view bytes) override {
    while (!bytes.empty()) {
      std::string_view taken = bytes.substr(0, kRawFrame - raw_.size());
      raw_ += taken;
      bytes.remove_prefix(taken.size());
      if (raw_.size() == kRawFrame) LAYERFS_TRY(flush_raw());
    }
    return {};
  }

  Result<void> add_object(const Digest& digest, std::uint64_t size) override {
    LAYERFS_TRY(flush_raw());
    item_.clear();
    append_frame(item_, Frame{{}, digest, size});
    ++frame_count_;
    return named(framing_.add(item_));
  }

  Result<void> publish(const LayerInfo& info) override {
    LAYERFS_CHECK(!published_);
    LAYERFS_TRY(flush_raw());
    LAYERFS_TRY(named(records_.finish(encode_footer(info, record_count_))));
    LAYERFS_TRY(named(framing_.finish(encode_footer(info, frame_count_))));
    LAYERFS_TRY(named(records_.sync()));
    LAYERFS_TRY(named(framing_.sync()));
    LAYERFS_TRY(layout_.own().sync(directory_));
    LAYERFS_TRY(rename_into_place(info.diff_id));
    return layout_.own().sync(Layout::kLayers);
  }

 private:
  /// Full disks and the like are errors of a path that means nothing to anybody.
  static Result<void> named(Result<void> result) {
    if (!result) return with_context(result.error(), "write layer");
    return result;
  }

  Result<void> flush_raw() {
    if (raw_.empty()) return {};
    item_.clear();
    append_frame(item_, Frame{raw_, std::nullopt, 0});
    raw_.clear();
    ++frame_count_;
    return named(framing_.add(item_));
  }

  Result<void> rename_into_place(const Digest& diff_id) {
    std::string target = layout_.layer(diff_id);
    auto renamed = layout_.own().rename(directory_, target, RENAME_NOREPLACE);
    if (renamed) {
      published_ = true;
      return {};
    }
    if (renamed.error().code ==
        EINVAL) {  // a file system without renameat2's flags: a full target is refused too
      renamed = layout_.own().rename(directory_, target);
      if (renamed) published_ = true;
      if (renamed || renamed.error().code != ENOTEMPTY) return renamed;
    } else if (renamed.error().code != EEXIST) {
      return renamed;
    }
    // Somebody else was first: the same layer, unless what lies there is damaged.
    if (open_layer(layout_, diff_id)) return {};
    log_warning("replacing the damaged layer '{}'", diff_id.str());
    std::string damaged = layout_.make_temporary_name("damaged");
    LAYERFS_TRY(layout_.own().rename(target, damaged));
    LAYERFS_TRY(layout_.own().rename(directory_, target));
    published_ = true;
    return layout_.own().remove(damaged);
  }

  const Layout& layout_;
  Fd lease_;
  std::string directory_;
  BlockWriter records_;
  BlockWriter framing_;
  std::string item_;
  std::string raw_;
  std::uint64_t record_count_ = 0;
  std::uint64_t frame_count_ = 0;
  bool published_ = false;
};

class LayerFiles final : public StoredLayer {
 public:
  LayerFiles(std::string path, const Footer& records_footer, const Footer& framing_footer, BlockFile records,
             BlockFile framing)
      : path_(std::move(path)),
        records_footer_(records_footer),
        framing_footer_(framing_footer),
        records_(std::move(records)),
        framing_(std::move(framing)) {}

  const LayerInfo& info() const override { return records_footer_.info; }

  Result<void> for_each(FunctionRef<Result<void>(const tree::LayerRecord&)> visit) const override {
    BlockReader reader(records_);
    tree::LayerRecord record;
    std::uint64_t count = 0;
    for (;;) {
      LAYERFS_ASSIGN(std::string_view block, reader.next());
      if (block.empty()) break;
      for (ByteReader from(block); !from.rest().empty(); ++count) {
        if (!take_record(from, record)) return corrupt_error("read layer", path_, "a record is damaged");
        LAYERFS_TRY(visit(record));
      }
    }
    if (count != records_footer_.items) return corrupt_error("read layer", path_, "records are missing");
    return {};
  }

  Result<void> for_each_frame(
      FunctionRef<Result<void>(std::string_view raw, const Digest* digest, std::uint64_t size)> visit)
      const override {
    BlockReader reader(framing_);
    Frame frame;
    std::uint64_t count = 0;
    for (;;) {
      LAYERFS_ASSIGN(std::string_view block, reader.next());
      if (block.empty()) break;
      for (ByteReader from(block); !from.rest().empty(); ++count) {
        if (!take_frame(from, frame)) return corrupt_error("read layer", path_, "a frame is damaged");
        LAYERFS_TRY(visit(frame.raw, frame.object ? &*frame.object : nullptr,
                          frame.object ? frame.size : frame.raw.size()));
      }
    }
    if (count != framing_footer_.items) return corrupt_error("read layer", path_, "frames are missing");
    return {};
  }

 private:
  std::string path_;
  Footer records_footer_;
  Footer framing_footer_;
  BlockFile records_;
  BlockFile framing_;
};

}  // namespace

Result<std::unique_ptr<LayerWriter>> make_layer_writer(const Layout& layout, Fd lease) {
  std::string directory = layout.make_temporary_name("layer");
  LAYERFS_TRY(layout.own().make_dir(directory, 0700));
  auto start = [&](const char* name, BlockFileKind kind) -> Result<BlockWriter> {
    LAYERFS_ASSIGN(Fd fd, layout.own().open(join_path(directory, name), O_WRONLY | O_CREAT | O_EXCL, 0600));
    return BlockWriter::make(std::move(fd), kind);
  };
  auto records = start("records", BlockFileKind::kRecords);
  auto framing =
      records ? start("framing", BlockFileKind::kFraming) : Result<BlockWriter>(std::unexpected(Error{}));
  if (!records || !framing) {
    if (auto removed = layout.own().remove(directory); !removed) log_warning("{}", removed.error().message());
    return with_context(records ? framing.error() : records.error(), "write layer");
  }
  return std::make_unique<LayerFilesWriter>(layout, std::move(lease), std::move(directory),
                                            std::move(*records), std::move(*framing));
}

Result<std::shared_ptr<const StoredLayer>> open_layer(const Layout& layout, const Digest& diff_id) {
  std::string path = layout.layer(diff_id);
  LAYERFS_ASSIGN(auto there, layout.own().find_stat(path));
  if (!there) return system_error(ENOENT, "open layer", diff_id.str());
  auto open = [&](const char* name, BlockFileKind kind) -> Result<BlockFile> {
    std::string file = join_path(path, name);
    LAYERFS_ASSIGN(Fd fd, layout.own().open(file, O_RDONLY));
    return BlockFile::open(std::move(fd), layout.absolute(file), kind);
  };
  LAYERFS_ASSIGN(BlockFile records, open("records", BlockFileKind::kRecords));
  LAYERFS_ASSIGN(BlockFile framing, open("framing", BlockFileKind::kFraming));
  auto records_footer = decode_footer(records.footer());
  auto framing_footer = decode_footer(framing.footer());
  if (!records_footer || !framing_footer) return corrupt_error("open layer", path, "its footer is damaged");
  if (records_footer->info.diff_id != diff_id || framing_footer->info.diff_id != diff_id)
    return corrupt_error("open layer", path, "it is another layer");
  return std::make_shared<LayerFiles>(std::move(path), *records_footer, *framing_footer, std::move(records),
                                      std::move(framing));
}

}  // namespace layerfs::store
