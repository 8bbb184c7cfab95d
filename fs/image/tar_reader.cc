// SPDX-License-Identifier: Apache-2.0
#include "fs/image/tar_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "fs/base/check.h"
#include "fs/base/refuse.h"
#include "fs/image/whiteout_name.h"

namespace layerfs::image {

namespace {

std::unexpected<Error> truncated() {
  return std::unexpected(Error{ErrorKind::kCorrupt, EIO, {}, "truncated"});
}

bool is_zero(std::string_view block) { return block.find_first_not_of('\0') == std::string_view::npos; }

/// Sizes and offsets stay far from overflow.
constexpr std::int64_t kMaxSize = std::int64_t{1} << 62;

template <std::size_t N>
Result<std::int64_t> number_of(const std::array<char, N>& field, const char* what) {
  auto value = parse_tar_number(tar_field(field));
  if (!value) return refuse(fmt::format("invalid {}", what));
  return *value;
}

Result<std::uint32_t> id_of(std::int64_t value, const char* what) {
  // 2^32-1 is chown(2)'s "leave it".
  if (value < 0 || value >= 0xffffffff) return refuse(fmt::format("{} {} out of range", what, value));
  return static_cast<std::uint32_t>(value);
}

/// A time that GNU and star keep in the header; blank or senseless ones are left out, as other readers do.
std::optional<tree::Time> header_time(const TarHeader& header, std::size_t at) {
  std::string_view field(reinterpret_cast<const char*>(&header) + at, 12);
  auto seconds = parse_tar_number(field);
  if (!seconds || *seconds == 0) return std::nullopt;
  return tree::Time{*seconds, 0};
}

}  // namespace

TarReader::TarReader(ChunkSource& source, RawSink raw, TarEnd end)
    : source_(source), raw_(std::move(raw)), end_(end) {}

// ---- the stream as bytes

Result<bool> TarReader::at_end() {
  if (chunk_.empty() && !source_done_) {
    LAYERFS_ASSIGN(auto bytes, source_.next());
    chunk_ = {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    source_done_ = bytes.empty();
  }
  return chunk_.empty();
}

Result<std::string_view> TarReader::take_some(std::uint64_t most) {
  LAYERFS_ASSIGN(bool ended, at_end());
  if (ended) return truncated();
  std::string_view piece =
      chunk_.substr(0, static_cast<std::size_t>(std::min<std::uint64_t>(most, chunk_.size())));
  chunk_.remove_prefix(piece.size());
  position_ += piece.size();
  return piece;
}

Result<std::string_view> TarReader::take(std::size_t size) {
  if (size == 0) return std::string_view();
  LAYERFS_ASSIGN(std::string_view piece, take_some(size));
  if (piece.size() == size) return piece;
  scratch_.assign(piece);
  while (scratch_.size() < size) {
    LAYERFS_ASSIGN(piece, take_some(size - scratch_.size()));
    scratch_.append(piece);
  }
  return std::string_view(scratch_);
}

Result<void> TarReader::give_raw(std::string_view bytes) {
  if (!raw_ || bytes.empty()) return {};
  return raw_(bytes);
}

Result<void> TarReader::pass(std::uint64_t size) {
  while (size > 0) {
    if (!raw_ && chunk_.empty() && !source_done_) {
      LAYERFS_ASSIGN(std::uint64_t skipped, source_.skip(size));
      position_ += skipped;
      size -= skipped;
      if (size == 0) break;
    }
    LAYERFS_ASSIGN(std::string_view piece, take_some(size));
    LAYERFS_TRY(give_raw(piece));
    size -= piece.size();
  }
  return {};
}

// ---- entries

std::unexpected<Error> TarReader::at_header(Error error) const {
  if (error.code == ECANCELED) return std::unexpected(std::move(error));
  return with_context(std::move(error), "tar header at byte", fmt::format("{}", header_at_));
}

std::unexpected<Error> TarReader::in_entry(Error error) const {
  if (error.code == ECANCELED) return std::unexpected(std::move(error));
  return with_context(std::move(error), "tar entry", shown_name(member_.name));
}

Result<bool> TarReader::next() {
  if (auto passed = skip_content(); !passed) return std::unexpected(passed.error());
  pax_.end_entry();
  long_name_.clear();
  long_link_.clear();
  for (bool extended = false;; extended = true) {
    header_at_ = position_;
    auto ended = at_end();
    if (!ended) return at_header(ended.error());
    if (*ended) {
      if (extended) return at_header(truncated().error());
      if (end_ == TarEnd::kMarked)
        return at_header(Error{ErrorKind::kCorrupt, EIO, {}, "truncated: no end-of-archive block"});
      return false;
    }
    auto block = take(kTarBlock);
    if (!block) return at_header(block.error());
    if (is_zero(*block)) return read_end(*block);
    TarHeader header;
    std::memcpy(&header, block->data(), sizeof header);
    if (!tar_checksum_matches(header))
      return at_header(
          refuse(header_at_ == 0 ? "wrong checksum, so this is no tar" : "wrong checksum").error());
    LAYERFS_TRY(give_raw(*block));
    LAYERFS_ASSIGN(bool is_entry, handle_header(header));
    if (is_entry) return true;
  }
}

Result<bool> TarReader::read_end(std::string_view first_block) {
  LAYERFS_TRY(give_raw(first_block));
  LAYERFS_ASSIGN(bool ended, at_end());
  if (ended) return false;
  auto second = take(kTarBlock);
  if (!second) return at_header(second.error());
  // Readers differ in what they make of a lone zero block: some stop, some go on, so it is refused.
  if (!is_zero(*second)) return at_header(refuse("a lone zero block inside the archive").error());
  LAYERFS_TRY(give_raw(*second));
  for (std::uint64_t end_at = position_;;) {
    LAYERFS_ASSIGN(ended, at_end());
    if (ended) return false;
    LAYERFS_ASSIGN(std::string_view rest, take_some(UINT64_MAX));
    if (position_ - end_at > kMaxAfterEnd)
      return at_header(
          refuse(fmt::format("more than {} bytes after the end of the archive", kMaxAfterEnd)).error());
    LAYERFS_TRY(give_raw(rest));
  }
}

Result<std::string> TarReader::read_extension(const TarHeader& header) {
  LAYERFS_ASSIGN(std::int64_t size, number_of(header.size, "size"));
  if (size < 0 || static_cast<std::uint64_t>(size) > kMaxTarExtension)
    return refuse(fmt::format("a pax header or long name of {} bytes (at most {})", size, kMaxTarExtension));
  LAYERFS_ASSIGN(std::string_view view, take(static_cast<std::size_t>(size)));
  std::string body(view);
  LAYERFS_TRY(give_raw(body));
  LAYERFS_TRY(pass(tar_padding(body.size())));
  return body;
}

/// False: an extension of the entry that follows, or nothing of the file system.
Result<bool> TarReader::handle_header(const TarHeader& header) {
  auto extension = [&](auto use) -> Result<bool> {
    auto body = read_extension(header);
    if (!body) return at_header(body.error());
    if (Result<void> used = use(*body); !used) return at_header(used.error());
    return false;
  };
  switch (static_cast<TarType>(header.type)) {
    case TarType::kPaxHeader:
    case TarType::kPaxHeaderOld:
      return extension([&](const std::string& body) { return pax_.add_local(body); });
    case TarType::kPaxGlobal:
      return extension([&](const std::string& body) { return pax_.add_global(body); });
    case TarType::kGnuLongName:
      return extension([&](const std::string& body) -> Result<void> {
        long_name_ = tar_text(body);
        return {};
      });
    case TarType::kGnuLongLink:
      return extension([&](const std::string& body) -> Result<void> {
        long_link_ = tar_text(body);
        return {};
      });
    case TarType::kGnuVolume: return extension([](const std::string&) -> Result<void> { return {}; });
    default: break;
  }
  member_ = TarMember{};
  if (auto filled = fill_entry(header); !filled) return in_entry(filled.error());
  return true;
}

Result<void> TarReader::fill_entry(const TarHeader& header) {
  LAYERFS_TRY(fill_names(header));
  LAYERFS_TRY(fill_type(header.type));
  LAYERFS_TRY(fill_numbers(header));
  LAYERFS_TRY(fill_times(header));
  LAYERFS_ASSIGN(member_.xattrs, pax_.xattrs());
  LAYERFS_TRY(fill_sparse(header));
  return {};
}

Result<void> TarReader::fill_names(const TarHeader& header) {
  member_.name = tar_text(tar_field(header.name));
  TarDialect dialect = tar_dialect(header);
  if (dialect == TarDialect::kUstar || dialect == TarDialect::kStar) {
    std::string_view prefix = tar_field(header.prefix);
    if (dialect == TarDialect::kStar) prefix = prefix.substr(0, kStarPrefixSize);
    prefix = tar_text(prefix);
    if (!prefix.empty()) member_.name = fmt::format("{}/{}", prefix, member_.name);
  }
  if (!long_name_.empty()) member_.name = long_name_;
  if (const auto* path = pax_.find("path")) member_.name = *path;
  if (const auto* name = pax_.find("GNU.sparse.name")) member_.name = *name;
  member_.link = tar_text(tar_field(header.link));
  if (!long_link_.empty()) member_.link = long_link_;
  if (const auto* link = pax_.find("linkpath")) member_.link = *link;
  return {};
}

Result<void> TarReader::fill_type(char type) {
  switch (static_cast<TarType>(type)) {
    case TarType::kOldRegular:
    case TarType::kRegular:
    case TarType::kContiguous:
    case TarType::kGnuSparse:
      // v7 has no type for directories.
      member_.type = member_.name.ends_with('/') ? TarType::kDirectory : TarType::kRegular;
      return {};
    case TarType::kHardLink:
    case TarType::kSymlink:
    case TarType::kCharDevice:
    case TarType::kBlockDevice:
    case TarType::kDirectory:
    case TarType::kFifo: member_.type = static_cast<TarType>(type); return {};
    default:
      return std::unexpected(Error{ErrorKind::kUnsupported,
                                   EOPNOTSUPP,
                                   {},
                                   fmt::format("unknown tar entry type {:#04x}",
                                               static_cast<unsigned>(static_cast<unsigned char>(type)))});
  }
}

Result<void> TarReader::fill_numbers(const TarHeader& header) {
  LAYERFS_ASSIGN(std::int64_t mode, number_of(header.mode, "mode"));
  member_.mode = static_cast<std::uint16_t>(mode & 07777);

  auto number = [&](const char* key, const auto& field) -> Result<std::int64_t> {
    const std::string* record = pax_.find(key);
    if (record == nullptr) return number_of(field, key);
    auto value = parse_decimal(*record);
    if (!value) return refuse(fmt::format("invalid pax {}", key));
    return *value;
  };
  LAYERFS_ASSIGN(std::int64_t uid, number("uid", header.uid));
  LAYERFS_ASSIGN(member_.uid, id_of(uid, "uid"));
  LAYERFS_ASSIGN(std::int64_t gid, number("gid", header.gid));
  LAYERFS_ASSIGN(member_.gid, id_of(gid, "gid"));

  left_ = padding_ = 0;
  if (member_.type == TarType::kRegular || member_.type == TarType::kDirectory) {
    LAYERFS_ASSIGN(std::int64_t size, number("size", header.size));
    if (size < 0 || size > kMaxSize) return refuse("size out of range");
    if (member_.type == TarType::kRegular) {
      member_.size = left_ = static_cast<std::uint64_t>(size);
      padding_ = tar_padding(left_);
    } else if (size != 0 && header.type != static_cast<char>(TarType::kDirectory)) {
      return refuse("a directory with contents");
    }
  }
  if (member_.type == TarType::kCharDevice || member_.type == TarType::kBlockDevice) {
    LAYERFS_ASSIGN(std::int64_t major, number_of(header.device_major, "device major"));
    LAYERFS_ASSIGN(std::int64_t minor, number_of(header.device_minor, "device minor"));
    // What a device number of Linux holds: 12 and 20 bits (makedev(3), kdev_t.h).
    if (major < 0 || major > 0xfff || minor < 0 || minor > 0xfffff)
      return refuse(fmt::format("device {}:{} out of range", major, minor));
    member_.device_major = static_cast<std::uint32_t>(major);
    member_.device_minor = static_cast<std::uint32_t>(minor);
  }
  return {};
}

Result<void> TarReader::fill_times(const TarHeader& header) {
  LAYERFS_ASSIGN(std::int64_t seconds, number_of(header.mtime, "mtime"));
  member_.mtime = tree::Time{seconds, 0};
  TarDialect dialect = tar_dialect(header);
  if (dialect == TarDialect::kGnu) {
    member_.atime = header_time(header, kGnuAtimeAt);
    member_.ctime = header_time(header, kGnuCtimeAt);
  } else if (dialect == TarDialect::kStar) {
    member_.atime = header_time(header, kStarAtimeAt);
    member_.ctime = header_time(header, kStarCtimeAt);
  }
  if (const auto* text = pax_.find("mtime")) {
    LAYERFS_ASSIGN(member_.mtime, parse_pax_time(*text));
  }
  if (const auto* text = pax_.find("atime")) {
    LAYERFS_ASSIGN(member_.atime, parse_pax_time(*text));
  }
  if (const auto* text = pax_.find("ctime")) {
    LAYERFS_ASSIGN(member_.ctime, parse_pax_time(*text));
  }
  return {};
}

// ---- sparse files

Result<void> TarReader::fill_sparse(const TarHeader& header) {
  if (static_cast<TarType>(header.type) == TarType::kGnuSparse) return read_gnu_sparse(header);
  if (member_.type != TarType::kRegular) return {};
  return read_pax_sparse();
}

Result<void> TarReader::read_gnu_sparse(const TarHeader& header) {
  if (member_.type != TarType::kRegular) return refuse("a sparse directory");
  std::string_view block(reinterpret_cast<const char*>(&header), kTarBlock);
  auto real_size = parse_tar_number(block.substr(kGnuRealSizeAt, 12));
  if (!real_size || *real_size < 0 || *real_size > kMaxSize) return refuse("invalid size of a sparse file");
  SparseMap map;
  LAYERFS_TRY(add_gnu_pairs(block.substr(kGnuSparseAt), kGnuSparsePairs, map));
  bool more = block[kGnuMoreAt] != '\0';
  while (more) {
    LAYERFS_ASSIGN(std::string_view extension, take(kTarBlock));
    LAYERFS_TRY(give_raw(extension));
    LAYERFS_TRY(add_gnu_pairs(extension, kGnuExtensionPairs, map));
    more = extension[kGnuExtensionMoreAt] != '\0';
  }
  member_.is_sparse = true;
  member_.size = static_cast<std::uint64_t>(*real_size);
  member_.extents = std::move(map);
  return finish_sparse_map(member_.extents, member_.size, left_);
}

Result<void> TarReader::read_pax_sparse() {
  const std::string* major = pax_.find("GNU.sparse.major");
  const std::string* minor = pax_.find("GNU.sparse.minor");
  const std::string* list = pax_.find("GNU.sparse.map");
  bool has_size = false;
  std::uint64_t size = 0;
  for (const char* key : {"GNU.sparse.size", "GNU.sparse.realsize"}) {
    const std::string* text = pax_.find(key);
    if (text == nullptr) continue;
    auto value = parse_decimal(*text);
    if (!value || *value > kMaxSize) return refuse("invalid size of a sparse file");
    size = static_cast<std::uint64_t>(*value);
    has_size = true;
  }
  SparseMap map;
  if (major != nullptr && minor != nullptr && *major == "1" && *minor == "0") {
    SparseMapParser parser;
    for (bool complete = false; !complete;) {
      if (left_ < kTarBlock) return refuse("invalid sparse map");
      LAYERFS_ASSIGN(std::string_view block, take(kTarBlock));
      left_ -= kTarBlock;
      LAYERFS_TRY(give_raw(block));
      LAYERFS_ASSIGN(complete, parser.add_block(block));
    }
    map = parser.take();
  } else if (major != nullptr && *major != "0") {
    return std::unexpected(Error{ErrorKind::kUnsupported, EOPNOTSUPP, {}, "unknown sparse format"});
  } else if (list != nullptr) {
    LAYERFS_ASSIGN(map, parse_sparse_list(*list));
  } else if (!pax_.sparse_pairs().empty()) {
    LAYERFS_ASSIGN(map, parse_sparse_pairs(pax_.sparse_pairs()));
  } else if (has_size && left_ == 0) {
    // A file of holes only: formats 0.0 and 0.1 have nothing to list.
  } else {
    return {};
  }
  if (!has_size) return refuse("a sparse file without a size");
  member_.is_sparse = true;
  member_.size = size;
  member_.extents = std::move(map);
  return finish_sparse_map(member_.extents, member_.size, left_);
}

// ---- contents

Result<std::string_view> TarReader::take_content_piece() {
  auto piece = take_some(left_);
  if (!piece) return in_entry(piece.error());
  left_ -= piece->size();
  return piece;
}

Result<std::string_view> TarReader::read_whole() {
  LAYERFS_CHECK(!member_.is_sparse && left_ <= kMaxWhole);
  auto whole = take(static_cast<std::size_t>(left_));
  if (!whole) return in_entry(whole.error());
  left_ = 0;
  return whole;
}

Result<void> TarReader::read_pieces(FunctionRef<Result<void>(std::string_view)> visit) {
  LAYERFS_CHECK(!member_.is_sparse);
  while (left_ > 0) {
    LAYERFS_ASSIGN(std::string_view piece, take_content_piece());
    LAYERFS_TRY(visit(piece));
  }
  return {};
}

Result<void> TarReader::read_sparse(FunctionRef<Result<void>(std::string_view)> data,
                                    FunctionRef<Result<void>(std::uint64_t)> hole) {
  LAYERFS_CHECK(member_.is_sparse);
  std::uint64_t at = 0;
  for (const auto& extent : member_.extents) {
    if (extent.offset > at) LAYERFS_TRY(hole(extent.offset - at));
    std::uint64_t until = left_ - extent.size;
    while (left_ > until) {
      auto piece = take_some(left_ - until);
      if (!piece) return in_entry(piece.error());
      left_ -= piece->size();
      LAYERFS_TRY(give_raw(*piece));
      LAYERFS_TRY(data(*piece));
    }
    at = extent.offset + extent.size;
  }
  if (member_.size > at) LAYERFS_TRY(hole(member_.size - at));
  return {};
}

Result<void> TarReader::skip_content() {
  std::uint64_t rest = left_ + padding_;
  left_ = padding_ = 0;
  if (auto passed = pass(rest); !passed) return in_entry(passed.error());
  return {};
}

}  // namespace layerfs::image
