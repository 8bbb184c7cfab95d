// SPDX-License-Identifier: Apache-2.0
#include "fs/store/tree_format.h"

#include "fs/store/format.h"
#include "fs/store/xxh64.h"

namespace layerfs::store::tree_format {

std::string encode_head(const Head& head) {
  std::string bytes;
  append_varint(bytes, to_number(head.max_ino));
  append_varint(bytes, head.nodes);
  append_varint(bytes, head.entries);
  append_varint(bytes, head.xattrs);
  return bytes;
}

std::optional<Head> decode_head(std::string_view bytes) {
  ByteReader from(bytes);
  Head head;
  head.max_ino = tree::Ino{take_varint(from)};
  head.nodes = take_varint(from);
  head.entries = take_varint(from);
  head.xattrs = take_varint(from);
  if (!from.done() || to_number(head.max_ino) >= kInoLimit) return std::nullopt;
  return head;
}

std::string encode_trailer(const Trailer& trailer) {
  std::string bytes(kMagic);
  append_le(bytes, kVersion);
  append_le(bytes, std::uint32_t{0});
  append_le(bytes, trailer.lmdb_size);
  append_le(bytes, trailer.checksum);
  append_digest(bytes, trailer.chain);
  append_le(bytes, xxh64(bytes));
  return bytes;
}

std::optional<Trailer> decode_trailer(std::string_view bytes, std::uint32_t& version) {
  ByteReader from(bytes);
  if (from.take(kMagic.size()) != kMagic) return std::nullopt;
  version = from.le<std::uint32_t>();
  from.le<std::uint32_t>();
  Trailer trailer;
  trailer.lmdb_size = from.le<std::uint64_t>();
  trailer.checksum = from.le<std::uint64_t>();
  trailer.chain = take_digest(from);
  auto checksum = from.le<std::uint64_t>();
  if (!from.done() || checksum != xxh64(bytes.substr(0, bytes.size() - 8))) return std::nullopt;
  return trailer;
}

}  // namespace layerfs::store::tree_format
