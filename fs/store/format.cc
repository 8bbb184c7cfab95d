// SPDX-License-Identifier: Apache-2.0
#include "fs/store/format.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace layerfs::store {

namespace {

using tree::ContentKind;
using tree::Node;
using tree::NodeKind;

constexpr std::uint8_t kRecordVersion = 1;

// Flags of a node: which optional fields follow.
constexpr std::uint8_t kHasOwner = 1;
constexpr std::uint8_t kHasRdev = 2;
constexpr std::uint8_t kHasOtherTimes = 4;
constexpr std::uint8_t kHasParent = 8;
constexpr std::uint8_t kHasObject = 16;
constexpr std::uint8_t kHasBaseSize = 32;
constexpr std::uint8_t kAllNodeFlags = 63;

/// A length that is longer than the bytes there are fails the reader, whatever it says.
void fail(ByteReader& from) { from.take(std::numeric_limits<std::size_t>::max()); }

std::uint64_t zigzag(std::int64_t value) {
  return static_cast<std::uint64_t>(value) << 1 ^ static_cast<std::uint64_t>(value >> 63);
}
std::int64_t unzigzag(std::uint64_t value) {
  return static_cast<std::int64_t>(value >> 1 ^ (0 - (value & 1)));
}

void append_time(std::string& to, const tree::Time& time) {
  append_varint(to, zigzag(time.seconds));
  append_varint(to, time.nanoseconds);
}
tree::Time take_time(ByteReader& from) {
  tree::Time time;
  time.seconds = unzigzag(take_varint(from));
  std::uint64_t nanoseconds = take_varint(from);
  if (nanoseconds > 999'999'999) fail(from);
  time.nanoseconds = static_cast<std::uint32_t>(nanoseconds);
  return time;
}

std::uint32_t take_u32(ByteReader& from) {
  std::uint64_t value = take_varint(from);
  if (value > std::numeric_limits<std::uint32_t>::max()) fail(from);
  return static_cast<std::uint32_t>(value);
}

void append_text(std::string& to, std::string_view text) {
  append_varint(to, text.size());
  to += text;
}
std::string_view take_text(ByteReader& from) { return from.take(take_varint(from)); }

void append_layers(std::string& to, const std::vector<ImageLayer>& layers) {
  append_varint(to, layers.size());
  for (const auto& layer : layers) {
    append_digest(to, layer.diff_id);
    append_digest(to, layer.blob);
    append_varint(to, layer.blob_size);
    append_text(to, layer.media_type);
  }
}

}  // namespace

void append_varint(std::string& to, std::uint64_t value) {
  char bytes[10];
  std::size_t size = 0;
  while (value >= 0x80) {
    bytes[size++] = static_cast<char>(value | 0x80);
    value >>= 7;
  }
  bytes[size++] = static_cast<char>(value);
  to.append(bytes, size);
}

std::uint64_t take_varint(ByteReader& from) {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    auto byte = from.le<std::uint8_t>();
    if (shift == 63 && byte > 1) break;
    value |= std::uint64_t{byte & 0x7FU} << shift;
    if (byte < 0x80) return value;
  }
  fail(from);
  return 0;
}

void append_digest(std::string& to, const Digest& digest) { to += digest_key(digest); }
Digest take_digest(ByteReader& from) {
  std::string_view bytes = from.take(Digest::kSize);
  return bytes.size() == Digest::kSize ? digest_of_key(bytes) : Digest{};
}
Digest digest_of_key(std::string_view key) {
  Digest digest;
  std::memcpy(digest.bytes.data(), key.data(), Digest::kSize);
  return digest;
}

void append_node(std::string& to, const Node& node) {
  std::uint8_t flags = 0;
  if (to_number(node.uid) != 0 || to_number(node.gid) != 0) flags |= kHasOwner;
  if (node.rdev != 0) flags |= kHasRdev;
  if (node.ctime != node.mtime || node.atime != node.mtime) flags |= kHasOtherTimes;
  if (to_number(node.parent) != 0) flags |= kHasParent;
  if (!node.object.is_zero()) flags |= kHasObject;
  if (node.base_size != 0) flags |= kHasBaseSize;
  to += static_cast<char>(static_cast<unsigned>(node.kind) | static_cast<unsigned>(node.content) << 4);
  to += static_cast<char>(flags);
  append_le<std::uint16_t>(to, node.mode);
  append_varint(to, node.nlink);
  append_varint(to, node.size);
  append_time(to, node.mtime);
  if ((flags & kHasOwner) != 0) {
    append_varint(to, to_number(node.uid));
    append_varint(to, to_number(node.gid));
  }
  if ((flags & kHasRdev) != 0) append_varint(to, node.rdev);
  if ((flags & kHasOtherTimes) != 0) {
    append_time(to, node.ctime);
    append_time(to, node.atime);
  }
  if ((flags & kHasParent) != 0) append_varint(to, to_number(node.parent));
  if ((flags & kHasObject) != 0) append_digest(to, node.object);
  if ((flags & kHasBaseSize) != 0) append_varint(to, node.base_size);
}

bool take_node(ByteReader& from, Node& node) {
  auto kinds = from.le<std::uint8_t>();
  auto flags = from.le<std::uint8_t>();
  auto kind = static_cast<std::uint8_t>(kinds & 15);
  auto content = static_cast<std::uint8_t>(kinds >> 4);
  if (kind < 1 || kind > 7 || content > 3 || (flags & ~kAllNodeFlags) != 0) return false;
  node = Node{};
  node.kind = static_cast<NodeKind>(kind);
  node.content = static_cast<ContentKind>(content);
  node.mode = from.le<std::uint16_t>();
  if (node.mode > 07777) return false;
  node.nlink = take_u32(from);
  node.size = take_varint(from);
  node.mtime = node.ctime = node.atime = take_time(from);
  if ((flags & kHasOwner) != 0) {
    node.uid = tree::Uid{take_u32(from)};
    node.gid = tree::Gid{take_u32(from)};
  }
  if ((flags & kHasRdev) != 0) node.rdev = take_varint(from);
  if ((flags & kHasOtherTimes) != 0) {
    node.ctime = take_time(from);
    node.atime = take_time(from);
  }
  if ((flags & kHasParent) != 0) node.parent = tree::Ino{take_varint(from)};
  if ((flags & kHasObject) != 0) node.object = take_digest(from);
  if ((flags & kHasBaseSize) != 0) node.base_size = take_varint(from);
  return from.ok();
}

void append_record(std::string& to, const tree::LayerRecord& record) {
  to += static_cast<char>(record.kind);
  append_text(to, record.path);
  append_text(to, record.target);
  if (record.kind == tree::RecordKind::kNode) append_node(to, record.node);
  append_varint(to, record.xattrs.size());
  for (const auto& [name, value] : record.xattrs) {
    append_text(to, name);
    append_text(to, value);
  }
}

bool take_record(ByteReader& from, tree::LayerRecord& record) {
  auto kind = from.le<std::uint8_t>();
  if (kind < 1 || kind > 4) return false;
  record.kind = static_cast<tree::RecordKind>(kind);
  record.path.assign(take_text(from));
  record.target.assign(take_text(from));
  if (!from.ok() || !is_normalised_path(record.path)) return false;
  record.node = Node{};
  if (record.kind == tree::RecordKind::kNode && !take_node(from, record.node)) return false;
  if (record.kind == tree::RecordKind::kHardLink && !is_normalised_path(record.target)) return false;
  record.xattrs.clear();
  for (std::uint64_t left = take_varint(from); left > 0 && from.ok(); --left) {
    std::string_view name = take_text(from);
    std::string_view value = take_text(from);
    if (from.ok()) record.xattrs.emplace_back(name, value);
  }
  return from.ok();
}

std::string encode_location(const ObjectLocation& location) {
  std::string bytes;
  append_le(bytes, location.pack);
  append_le(bytes, location.offset);
  append_le(bytes, location.size);
  return bytes;
}

std::optional<ObjectLocation> decode_location(std::string_view bytes) {
  ByteReader from(bytes);
  ObjectLocation location;
  location.pack = from.le<std::uint64_t>();
  location.offset = from.le<std::uint64_t>();
  location.size = from.le<std::uint64_t>();
  constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();
  if (!from.done() || location.offset > kMost || location.size > kMost - location.offset) return std::nullopt;
  return location;
}

std::string encode_image(const ImageRecord& image) {
  std::string bytes(1, static_cast<char>(kRecordVersion));
  append_text(bytes, image.reference);
  append_digest(bytes, image.manifest);
  append_digest(bytes, image.config);
  append_digest(bytes, image.chain);
  append_varint(bytes, zigzag(image.imported_at));
  append_layers(bytes, image.layers);
  return bytes;
}

std::optional<ImageRecord> decode_image(std::string_view bytes) {
  ByteReader from(bytes);
  if (from.le<std::uint8_t>() != kRecordVersion) return std::nullopt;
  ImageRecord image;
  image.reference = take_text(from);
  image.manifest = take_digest(from);
  image.config = take_digest(from);
  image.chain = take_digest(from);
  image.imported_at = unzigzag(take_varint(from));
  for (std::uint64_t left = take_varint(from); left > 0 && from.ok(); --left) {
    ImageLayer layer;
    layer.diff_id = take_digest(from);
    layer.blob = take_digest(from);
    layer.blob_size = take_varint(from);
    layer.media_type = take_text(from);
    image.layers.push_back(std::move(layer));
  }
  if (!from.done()) return std::nullopt;
  return image;
}

std::string encode_container(const ContainerRecord& container) {
  std::string bytes(1, static_cast<char>(kRecordVersion));
  append_text(bytes, container.id);
  append_text(bytes, container.name);
  append_text(bytes, container.image_reference);
  append_digest(bytes, container.image_manifest);
  append_digest(bytes, container.image_config);
  append_digest(bytes, container.chain);
  append_varint(bytes, container.layers.size());
  for (const auto& layer : container.layers) append_digest(bytes, layer);
  append_varint(bytes, zigzag(container.created_at));
  bytes += static_cast<char>(container.is_mount ? 1 : 0);
  return bytes;
}

std::optional<ContainerRecord> decode_container(std::string_view bytes) {
  ByteReader from(bytes);
  if (from.le<std::uint8_t>() != kRecordVersion) return std::nullopt;
  ContainerRecord container;
  container.id = take_text(from);
  container.name = take_text(from);
  container.image_reference = take_text(from);
  container.image_manifest = take_digest(from);
  container.image_config = take_digest(from);
  container.chain = take_digest(from);
  for (std::uint64_t left = take_varint(from); left > 0 && from.ok(); --left)
    container.layers.push_back(take_digest(from));
  container.created_at = unzigzag(take_varint(from));
  auto is_mount = from.le<std::uint8_t>();
  container.is_mount = is_mount == 1;
  if (!from.done() || is_mount > 1) return std::nullopt;
  return container;
}

bool is_normalised_path(std::string_view path) {
  if (path.size() > tree::kMaxPath) return false;
  if (path.empty()) return true;
  while (true) {
    std::size_t slash = path.find('/');
    std::string_view name = path.substr(0, slash);
    if (name.empty() || name == "." || name == ".." || name.size() > tree::kMaxName) return false;
    if (name.find('\0') != std::string_view::npos) return false;
    if (slash == std::string_view::npos) return true;
    path.remove_prefix(slash + 1);
  }
}

}  // namespace layerfs::store
