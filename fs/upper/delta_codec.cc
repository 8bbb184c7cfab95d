// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/delta_codec.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace layerfs::upper {

namespace {

using tree::Ino;
using tree::Node;

enum ChangeOp : std::uint8_t {
  kPutNode = 1,
  kEraseNode = 2,
  kPutEntry = 3,
  kPutTombstone = 4,
  kEraseEntry = 5,
  kPutXattr = 6,
  kPutXattrTombstone = 7,
  kEraseXattr = 8,
  kPutInline = 9,
  kAddExtent = 10,
  kTrimExtents = 11,
};

// Which optional fields follow the fixed ones of a node.
constexpr std::uint8_t kHasRdev = 1;
constexpr std::uint8_t kHasParent = 2;
constexpr std::uint8_t kHasObject = 4;
constexpr std::uint8_t kHasBaseSize = 8;
constexpr std::uint8_t kDataReaches = 16;  // has no field: it says so itself

constexpr std::uint32_t kNanosecondsPerSecond = 1'000'000'000;
constexpr std::uint64_t kMaxOffset = std::numeric_limits<std::int64_t>::max();

void append_ino(std::string& to, Ino ino) { append_le(to, to_number(ino)); }
void append_name(std::string& to, std::string_view name) {
  to.push_back(static_cast<char>(name.size()));
  to.append(name);
}
void append_value(std::string& to, std::string_view value) {
  append_le(to, static_cast<std::uint32_t>(value.size()));
  to.append(value);
}

std::uint8_t fields_of(const Node& node) {
  return static_cast<std::uint8_t>(
      (node.rdev != 0 ? kHasRdev : 0) | (to_number(node.parent) != 0 ? kHasParent : 0) |
      (node.object.is_zero() ? 0 : kHasObject) | (node.base_size != 0 ? kHasBaseSize : 0) |
      (node.data_reaches ? kDataReaches : 0));
}

/// What read_node will take back: a record that could not be read again would take the whole log with it.
bool is_storable(const Node& node) {
  return is_node_kind(static_cast<std::uint8_t>(node.kind)) && (node.mode & ~07777) == 0 &&
         node.size <= kMaxOffset && node.mtime.nanoseconds < kNanosecondsPerSecond &&
         node.ctime.nanoseconds < kNanosecondsPerSecond && node.atime.nanoseconds < kNanosecondsPerSecond;
}

/// Appends the bytes of one change; false where a name or value is too long.
struct ChangeAppender {
  std::string& to;

  static bool fits(std::string_view name) { return !name.empty() && name.size() <= tree::kMaxName; }
  static bool fits_value(std::string_view value) {
    return value.size() <= std::numeric_limits<std::uint32_t>::max();
  }

  bool named(ChangeOp op, Ino ino, std::string_view name) const {
    to.push_back(static_cast<char>(op));
    append_ino(to, ino);
    append_name(to, name);
    return fits(name);
  }
  bool operator()(const tree::PutNode& change) const {
    if (!is_storable(change.node)) return false;
    to.push_back(kPutNode);
    append_ino(to, change.ino);
    append_node(to, change.node);
    return true;
  }
  bool operator()(const tree::EraseNode& change) const {
    to.push_back(kEraseNode);
    append_ino(to, change.ino);
    return true;
  }
  bool operator()(const tree::PutEntry& change) const {
    if (!named(kPutEntry, change.dir, change.name)) return false;
    append_ino(to, change.ino);
    to.push_back(static_cast<char>(change.kind));
    return true;
  }
  bool operator()(const tree::PutTombstone& change) const {
    return named(kPutTombstone, change.dir, change.name);
  }
  bool operator()(const tree::EraseEntry& change) const {
    return named(kEraseEntry, change.dir, change.name);
  }
  bool operator()(const tree::PutXattr& change) const {
    if (!named(kPutXattr, change.ino, change.name) || !fits_value(change.value)) return false;
    append_value(to, change.value);
    return true;
  }
  bool operator()(const tree::PutXattrTombstone& change) const {
    return named(kPutXattrTombstone, change.ino, change.name);
  }
  bool operator()(const tree::EraseXattr& change) const {
    return named(kEraseXattr, change.ino, change.name);
  }
  bool operator()(const tree::PutInline& change) const {
    if (!fits_value(change.bytes)) return false;
    to.push_back(kPutInline);
    append_ino(to, change.ino);
    append_value(to, change.bytes);
    return true;
  }
  bool operator()(const tree::AddExtent& change) const {
    if (!is_extent(change.offset, change.length)) return false;
    to.push_back(kAddExtent);
    append_ino(to, change.ino);
    append_le(to, change.offset);
    append_le(to, change.length);
    return true;
  }
  bool operator()(const tree::TrimExtents& change) const {
    to.push_back(kTrimExtents);
    append_ino(to, change.ino);
    append_le(to, change.size);
    return true;
  }
};

std::unexpected<Error> bad_change(const char* reason) { return corrupt_error("read change", {}, reason); }

bool read_name(ByteReader& from, std::string& name) {
  const auto size = from.le<std::uint8_t>();
  name = from.take(size);
  return from.ok() && !name.empty();
}
bool read_value(ByteReader& from, std::string& value) {
  const auto size = from.le<std::uint32_t>();
  value = from.take(size);
  return from.ok();
}

/// One change off the front. nullopt-like: false where it is none.
bool read_change(ByteReader& from, tree::Change& change) {
  const auto op = from.le<std::uint8_t>();
  const Ino ino{from.le<std::uint64_t>()};
  std::string name;
  if (op >= kPutEntry && op <= kEraseXattr && !read_name(from, name)) return false;
  switch (op) {
    case kPutNode: {
      tree::PutNode put{ino, {}};
      if (!read_node(from, put.node)) return false;
      change = put;
      break;
    }
    case kEraseNode: change = tree::EraseNode{ino}; break;
    case kPutEntry: {
      const Ino target{from.le<std::uint64_t>()};
      const auto kind = from.le<std::uint8_t>();
      if (!is_node_kind(kind)) return false;
      change = tree::PutEntry{ino, std::move(name), target, static_cast<tree::NodeKind>(kind)};
      break;
    }
    case kPutTombstone: change = tree::PutTombstone{ino, std::move(name)}; break;
    case kEraseEntry: change = tree::EraseEntry{ino, std::move(name)}; break;
    case kPutXattr: {
      tree::PutXattr put{ino, std::move(name), {}};
      if (!read_value(from, put.value)) return false;
      change = std::move(put);
      break;
    }
    case kPutXattrTombstone: change = tree::PutXattrTombstone{ino, std::move(name)}; break;
    case kEraseXattr: change = tree::EraseXattr{ino, std::move(name)}; break;
    case kPutInline: {
      tree::PutInline put{ino, {}};
      if (!read_value(from, put.bytes)) return false;
      change = std::move(put);
      break;
    }
    case kAddExtent: {
      const auto offset = from.le<std::uint64_t>();
      const auto length = from.le<std::uint64_t>();
      if (!is_extent(offset, length)) return false;
      change = tree::AddExtent{ino, offset, length};
      break;
    }
    case kTrimExtents: change = tree::TrimExtents{ino, from.le<std::uint64_t>()}; break;
    default: return false;
  }
  return from.ok();
}

Result<LogBody> decode_changes(ByteReader& from) {
  tree::ChangeSet set;
  set.request = from.le<std::uint64_t>();
  const auto count = from.le<std::uint32_t>();
  // The shortest change is 9 bytes: a count that can't be is refused before anything is reserved for it.
  if (!from.ok() || count > from.rest().size() / 9) return bad_change("count too large");
  set.changes.reserve(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    tree::Change change;
    if (!read_change(from, change)) return bad_change("not a change");
    set.changes.push_back(std::move(change));
  }
  if (!from.done()) return bad_change("bytes left over");
  return LogBody(std::move(set));
}

Result<LogBody> decode_data(ByteReader& from) {
  const Ino ino{from.le<std::uint64_t>()};
  const auto content = static_cast<tree::ContentKind>(from.le<std::uint8_t>());
  const auto offset = from.le<std::uint64_t>();
  if (!from.ok() || !has_data_file(content)) return bad_change("not data");
  const std::string_view bytes = from.take(from.rest().size());
  const bool is_shared = content == tree::ContentKind::kShared;
  if (bytes.empty() || !is_extent(offset, bytes.size()) ||
      (is_shared && offset + bytes.size() > tree::kSharedLimit))
    return bad_change("data beyond its file");
  return LogBody(LogData{{ino, content}, offset, bytes});
}

}  // namespace

bool is_node_kind(std::uint8_t kind) {
  return kind >= static_cast<std::uint8_t>(tree::NodeKind::kRegular) &&
         kind <= static_cast<std::uint8_t>(tree::NodeKind::kSocket);
}

void append_node(std::string& to, const Node& node) {
  const std::uint8_t fields = fields_of(node);
  to.push_back(static_cast<char>(fields));
  to.push_back(static_cast<char>(node.kind));
  to.push_back(static_cast<char>(node.content));
  to.push_back('\0');
  append_le(to, node.mode);
  append_le(to, to_number(node.uid));
  append_le(to, to_number(node.gid));
  append_le(to, node.nlink);
  append_le(to, node.size);
  for (const tree::Time* time : {&node.mtime, &node.ctime, &node.atime}) {
    append_le(to, time->seconds);
    append_le(to, time->nanoseconds);
  }
  if (node.rdev != 0) append_le(to, node.rdev);
  if (to_number(node.parent) != 0) append_ino(to, node.parent);
  if ((fields & kHasObject) != 0)
    to.append(reinterpret_cast<const char*>(node.object.bytes.data()), Digest::kSize);
  if (node.base_size != 0) append_le(to, node.base_size);
}

bool read_node(ByteReader& from, Node& node) {
  const auto fields = from.le<std::uint8_t>();
  const auto kind = from.le<std::uint8_t>();
  const auto content = from.le<std::uint8_t>();
  const auto zero = from.le<std::uint8_t>();
  if (!from.ok() || fields > (kHasRdev | kHasParent | kHasObject | kHasBaseSize | kDataReaches) || zero != 0)
    return false;
  if (!is_node_kind(kind) || content > static_cast<std::uint8_t>(tree::ContentKind::kShared)) return false;
  node.kind = static_cast<tree::NodeKind>(kind);
  node.content = static_cast<tree::ContentKind>(content);
  node.mode = from.le<std::uint16_t>();
  node.uid = tree::Uid{from.le<std::uint32_t>()};
  node.gid = tree::Gid{from.le<std::uint32_t>()};
  node.nlink = from.le<std::uint32_t>();
  node.size = from.le<std::uint64_t>();
  for (tree::Time* time : {&node.mtime, &node.ctime, &node.atime}) {
    time->seconds = from.le<std::int64_t>();
    time->nanoseconds = from.le<std::uint32_t>();
  }
  node.rdev = (fields & kHasRdev) != 0 ? from.le<std::uint64_t>() : 0;
  node.parent = Ino{(fields & kHasParent) != 0 ? from.le<std::uint64_t>() : 0};
  node.object = {};
  if ((fields & kHasObject) != 0) {
    const std::string_view object = from.take(Digest::kSize);
    if (object.size() == Digest::kSize) std::memcpy(node.object.bytes.data(), object.data(), Digest::kSize);
  }
  node.base_size = (fields & kHasBaseSize) != 0 ? from.le<std::uint64_t>() : 0;
  node.data_reaches = (fields & kDataReaches) != 0;
  // One value has one form: a field that is there is not zero.
  return from.ok() && is_storable(node) && fields == fields_of(node);
}

bool is_extent(std::uint64_t offset, std::uint64_t length) {
  return length <= kMaxOffset && offset <= kMaxOffset - length;
}

void append_extents(std::string& to, const std::vector<tree::Extent>& extents) {
  for (const tree::Extent& extent : extents) {
    append_le(to, extent.offset);
    append_le(to, extent.length);
  }
}

bool read_extents(std::string_view bytes, std::vector<tree::Extent>& extents) {
  extents.clear();
  if (bytes.size() % 16 != 0) return false;
  extents.reserve(bytes.size() / 16);
  ByteReader from(bytes);
  std::uint64_t end = 0;
  while (!from.done()) {
    const auto offset = from.le<std::uint64_t>();
    const auto length = from.le<std::uint64_t>();
    if (length == 0 || !is_extent(offset, length)) return false;
    if (!extents.empty() && offset <= end) return false;
    end = offset + length;
    extents.push_back({offset, length});
  }
  return true;
}

Result<void> append_changes(std::string& to, const tree::ChangeSet& change) {
  to.push_back(static_cast<char>(BodyType::kChanges));
  append_le(to, change.request);
  append_le(to, static_cast<std::uint32_t>(change.changes.size()));
  const ChangeAppender appender{to};
  for (const tree::Change& one : change.changes)
    if (!std::visit(appender, one)) return errno_error(EINVAL);
  return {};
}

void append_mark(std::string& to, LogMark mark) {
  to.push_back(static_cast<char>(BodyType::kMark));
  append_le(to, mark.flushed_to);
}

void append_numbers(std::string& to, LogNumbers numbers) {
  to.push_back(static_cast<char>(BodyType::kNumbers));
  append_le(to, numbers.limit);
}

void append_data(std::string& to, const LogData& data) {
  to.push_back(static_cast<char>(BodyType::kData));
  append_ino(to, data.name.ino);
  to.push_back(static_cast<char>(data.name.content));
  append_le(to, data.offset);
  to.append(data.bytes);
}

void append_flushed(std::string& to) { to.push_back(static_cast<char>(BodyType::kFlushed)); }

Result<LogBody> decode_body(std::string_view body) {
  ByteReader from(body);
  const auto type = from.le<std::uint8_t>();
  switch (static_cast<BodyType>(type)) {
    case BodyType::kChanges: return decode_changes(from);
    case BodyType::kMark: {
      const LogMark mark{from.le<std::uint64_t>()};
      if (!from.done()) return bad_change("not a mark");
      return LogBody(mark);
    }
    case BodyType::kNumbers: {
      const LogNumbers numbers{from.le<std::uint64_t>()};
      if (!from.done()) return bad_change("not a range of numbers");
      return LogBody(numbers);
    }
    case BodyType::kData: return decode_data(from);
    case BodyType::kFlushed:
      if (!from.done()) return bad_change("not a note of a flush");
      return LogBody(LogFlushed{});
  }
  return bad_change("unknown type");
}

}  // namespace layerfs::upper
