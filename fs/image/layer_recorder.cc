// SPDX-License-Identifier: Apache-2.0
#include "fs/image/layer_recorder.h"

#include <fmt/format.h>
#include <sys/sysmacros.h>

#include <algorithm>

#include "fs/base/bytes.h"
#include "fs/base/refuse.h"
#include "fs/image/whiteout_name.h"

namespace layerfs::image {

namespace {

/// With more bytes of holes than this a sparse file's object goes by its sparse form.
constexpr std::uint64_t kLongHoles = std::uint64_t{64} << 10;

tree::NodeKind node_kind(TarType type) {
  switch (type) {
    case TarType::kDirectory: return tree::NodeKind::kDirectory;
    case TarType::kSymlink: return tree::NodeKind::kSymlink;
    case TarType::kCharDevice: return tree::NodeKind::kCharDevice;
    case TarType::kBlockDevice: return tree::NodeKind::kBlockDevice;
    case TarType::kFifo: return tree::NodeKind::kFifo;
    default: return tree::NodeKind::kRegular;
  }
}

}  // namespace

LayerRecorder::LayerRecorder(ChunkSource& source, store::ObjectWriter& objects, store::LayerWriter& layer,
                             const ImportLimits& limits, TarEnd end)
    : objects_(objects),
      layer_(layer),
      limits_(limits),
      reader_(source, [&layer](std::string_view bytes) { return layer.add_raw(bytes); }, end) {}

Result<void> LayerRecorder::run() {
  for (;;) {
    LAYERFS_ASSIGN(bool more, reader_.next());
    if (!more) break;
    LAYERFS_TRY(count_entry());
    LAYERFS_TRY(record_member());
  }
  info_.tar_bytes = reader_.position();
  return {};
}

std::unexpected<Error> LayerRecorder::in_member(Error error) const {
  return with_context(std::move(error), "tar entry", shown_name(reader_.member().name));
}

Result<void> LayerRecorder::count_entry() {
  if (++info_.entries <= limits_.entries) return {};
  return in_member(
      refuse(fmt::format("more than {} entries in the layer (the limit can be raised)", limits_.entries))
          .error());
}

Result<void> LayerRecorder::record_member() {
  auto parsed = parse_entry_path(reader_.member().name);
  if (!parsed) return in_member(parsed.error());
  switch (parsed->meaning) {
    case PathMeaning::kIgnored: return {};
    case PathMeaning::kWhiteout: return record_mark(tree::RecordKind::kWhiteout, std::move(parsed->path));
    case PathMeaning::kOpaque: return record_mark(tree::RecordKind::kOpaque, std::move(parsed->path));
    case PathMeaning::kEntry: break;
  }
  if (reader_.member().type == TarType::kHardLink) return record_link(std::move(parsed->path));
  return record_node(std::move(parsed->path));
}

Result<void> LayerRecorder::record_mark(tree::RecordKind kind, std::string path) {
  tree::LayerRecord record;
  record.kind = kind;
  record.path = std::move(path);
  return add_record(record);
}

Result<void> LayerRecorder::add_record(const tree::LayerRecord& record) {
  metadata_bytes_ += ImportLimits::kEntryBytes + record.path.size() + record.target.size();
  for (const auto& [name, value] : record.xattrs) metadata_bytes_ += name.size() + value.size();
  if (metadata_bytes_ > limits_.metadata_bytes)
    return in_member(
        refuse(fmt::format("more than {} bytes of names, links and extended attributes in the layer (the "
                           "limit can be raised)",
                           limits_.metadata_bytes))
            .error());
  return layer_.add_record(record);
}

Result<void> LayerRecorder::record_link(std::string path) {
  auto target = parse_link_path(reader_.member().link);
  if (!target) return in_member(target.error());
  if (path.empty()) return in_member(refuse("a hard link in place of the root directory").error());
  if (path == *target) return in_member(refuse("a hard link to itself").error());
  tree::LayerRecord record;
  record.kind = tree::RecordKind::kHardLink;
  record.path = std::move(path);
  record.target = std::move(*target);
  return add_record(record);
}

Result<void> LayerRecorder::record_node(std::string path) {
  const TarMember& member = reader_.member();
  tree::LayerRecord record;
  record.path = std::move(path);
  tree::Node& node = record.node;
  node.kind = node_kind(member.type);
  if (record.path.empty() && node.kind != tree::NodeKind::kDirectory)
    return in_member(refuse("the root must be a directory").error());
  node.mode = member.mode;
  node.uid = tree::Uid{member.uid};
  node.gid = tree::Gid{member.gid};
  node.mtime = member.mtime;
  node.atime = member.atime.value_or(member.mtime);
  node.ctime = member.ctime.value_or(member.mtime);
  newest_ = std::max(newest_, member.mtime);
  if (node.kind == tree::NodeKind::kSymlink) {
    if (member.link.empty()) return in_member(refuse("a symbolic link without a target").error());
    if (member.link.size() > tree::kMaxPath)
      return in_member(refuse(fmt::format("a link target longer than {} bytes", tree::kMaxPath)).error());
    if (member.link.find('\0') != std::string::npos)
      return in_member(refuse("a NUL in the link target").error());
    node.mode = 0777;  // what every symbolic link of Linux has
    node.content = tree::ContentKind::kInline;
    node.size = member.link.size();
    record.target = member.link;
  }
  if (node.kind == tree::NodeKind::kCharDevice || node.kind == tree::NodeKind::kBlockDevice)
    node.rdev = ::makedev(member.device_major, member.device_minor);
  record.xattrs = member.xattrs;
  if (node.kind == tree::NodeKind::kRegular) LAYERFS_TRY(store_content(node));
  return add_record(record);
}

Result<void> LayerRecorder::store_content(tree::Node& node) {
  const TarMember& member = reader_.member();
  node.size = member.size;
  info_.content_bytes += member.size;
  if (member.is_sparse) return store_sparse(node);
  if (member.size == 0) return {};
  node.content = tree::ContentKind::kObject;
  if (member.size <= TarReader::kMaxWhole) {
    LAYERFS_ASSIGN(std::string_view bytes, reader_.read_whole());
    LAYERFS_ASSIGN(node.object, objects_.put(as_bytes(bytes)));
  } else {
    LAYERFS_TRY(objects_.begin(member.size));
    LAYERFS_TRY(reader_.read_pieces(
        [&](std::string_view piece) -> Result<void> { return objects_.append(as_bytes(piece)); }));
    LAYERFS_ASSIGN(node.object, objects_.end());
  }
  return layer_.add_object(node.object, member.size);
}

Result<void> LayerRecorder::store_sparse(tree::Node& node) {
  const TarMember& member = reader_.member();
  // Nothing but a hole: the node says so, no object is made of it however long it is.
  if (member.extents.empty()) return {};
  // Holes are counted by no limit: they cost nothing here, nor on disk. What lies between them takes whole
  // blocks.
  constexpr std::uint64_t kBlock = 4096;
  for (const auto& extent : member.extents) sparse_bytes_ += (extent.size + kBlock - 1) / kBlock * kBlock;
  if (sparse_bytes_ > limits_.layer_bytes)
    return in_member(refuse(fmt::format("sparse files that take more than {} bytes (the limit can be raised)",
                                        limits_.layer_bytes))
                         .error());
  std::uint64_t holes = member.size - std::min(member.size, reader_.stored_left());
  node.content = tree::ContentKind::kObject;
  LAYERFS_TRY(holes < kLongHoles ? objects_.begin(member.size) : objects_.begin_sparse());
  LAYERFS_TRY(reader_.read_sparse(
      [&](std::string_view piece) -> Result<void> { return objects_.append(as_bytes(piece)); },
      [&](std::uint64_t length) -> Result<void> { return objects_.append_hole(length); }));
  LAYERFS_ASSIGN(node.object, objects_.end());
  return {};
}

}  // namespace layerfs::image
