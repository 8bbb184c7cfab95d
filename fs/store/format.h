// SPDX-License-Identifier: Apache-2.0
// The bytes of FORMAT.md: values to bytes and back. Pure and total: decoders take any bytes.
//
// (1) decode_x(encode_x(v)) == v for every valid v.
// (2) A decoder never reads past its bytes; bytes that are not the format, or that are left over where the
//     value must fill them, are nullopt or false.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "fs/base/bytes.h"
#include "fs/base/digest.h"
#include "fs/store/catalog.h"
#include "fs/tree/layer_record.h"
#include "fs/tree/node.h"

namespace layerfs::store {

void append_varint(std::string& to, std::uint64_t value);
/// 0 where the bytes are no varint of 64 bits; the reader's ok() is then false.
std::uint64_t take_varint(ByteReader& from);

void append_digest(std::string& to, const Digest& digest);
Digest take_digest(ByteReader& from);
inline std::string_view digest_key(const Digest& digest) {
  return {reinterpret_cast<const char*>(digest.bytes.data()), Digest::kSize};
}
/// Requires: 32 bytes.
Digest digest_of_key(std::string_view key);

/// "Node" of FORMAT.md.
void append_node(std::string& to, const tree::Node& node);
/// False where the bytes are no node.
bool take_node(ByteReader& from, tree::Node& node);

/// "Record" of FORMAT.md.
void append_record(std::string& to, const tree::LayerRecord& record);
bool take_record(ByteReader& from, tree::LayerRecord& record);

/// In the place of an offset, of an object in a file of its own: its digest is that of its sparse form
/// (sparse_name.h).
inline constexpr std::uint64_t kSparseForm = 1;

/// Where an object's bytes are: in a pack, or (pack 0) in a file of its own.
struct ObjectLocation {
  std::uint64_t pack = 0;
  std::uint64_t offset = 0;  ///< of a file: 0, or kSparseForm
  std::uint64_t size = 0;
  bool is_sparse_form() const { return pack == 0 && offset == kSparseForm; }
  bool operator==(const ObjectLocation&) const = default;
};
std::string encode_location(const ObjectLocation& location);
std::optional<ObjectLocation> decode_location(std::string_view bytes);

std::string encode_image(const ImageRecord& image);
std::optional<ImageRecord> decode_image(std::string_view bytes);
std::string encode_container(const ContainerRecord& container);
std::optional<ContainerRecord> decode_container(std::string_view bytes);

/// layer_record.h, invariant 1.
bool is_normalised_path(std::string_view path);

}  // namespace layerfs::store
