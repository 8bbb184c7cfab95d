// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/delta_records.h"

#include <fmt/format.h>

#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "fs/base/bytes.h"
#include "fs/upper/crc32c.h"
#include "fs/upper/delta_codec.h"

namespace layerfs::upper {

namespace {

using tree::Ino;

constexpr std::uint32_t kVersion = 1;
constexpr char kNodeKey = 'N';
constexpr char kEntryKey = 'E';
constexpr char kXattrKey = 'X';
constexpr char kInlineKey = 'I';
constexpr char kExtentsKey = 'R';

constexpr std::uint8_t kHere = 1;       // an entry, an xattr's value
constexpr std::uint8_t kTombstone = 2;  // of either

constexpr std::size_t kInoAt = 1;
constexpr std::size_t kCookieAt = 9;
constexpr std::size_t kXattrNameAt = 9;
constexpr std::size_t kEntryNameAt = 17;

std::string ino_key(char kind, Ino ino) {
  std::string key(1, kind);
  append_be(key, to_number(ino));
  return key;
}
std::string entry_key(Ino dir, std::string_view name) {
  std::string key = ino_key(kEntryKey, dir);
  append_be(key, to_number(tree::name_cookie(name)));
  key += name;
  return key;
}
std::string xattr_key(Ino ino, std::string_view name) {
  std::string key = ino_key(kXattrKey, ino);
  key += name;
  return key;
}

void append_checksum(std::string& value, std::size_t start, std::string_view key) {
  append_le(value, crc32c(std::string_view(value).substr(start), crc32c(key)));
}
std::optional<std::string_view> find_checked(std::string_view key, std::string_view value) {
  if (value.size() < 4) return std::nullopt;
  const std::string_view payload = value.substr(0, value.size() - 4);
  if (load_le<std::uint32_t>(value.data() + payload.size()) != crc32c(payload, crc32c(key)))
    return std::nullopt;
  return payload;
}

std::unexpected<Error> bad_record(std::string_view reason) {
  return corrupt_error("read checkpoint", {}, reason);
}

}  // namespace

std::string encode_meta(const CheckpointMeta& meta) {
  std::string value;
  append_le(value, kVersion);
  append_le(value, meta.covered);
  append_le(value, meta.needs);
  append_le(value, meta.next_ino);
  append_checksum(value, 0, kMetaKey);
  return value;
}

Result<CheckpointMeta> decode_meta(std::string_view value) {
  const auto payload = find_checked(kMetaKey, value);
  if (!payload) return bad_record("the checksum of its first record is wrong");
  ByteReader from(*payload);
  const auto version = from.le<std::uint32_t>();
  if (version != kVersion)
    return unsupported_error("read checkpoint", {}, fmt::format("version {} is not known", version));
  CheckpointMeta meta;
  meta.covered = from.le<std::uint64_t>();
  meta.needs = from.le<std::uint64_t>();
  meta.next_ino = from.le<std::uint64_t>();
  if (!from.done() || meta.needs < meta.covered || meta.next_ino < tree::kFirstUpperIno)
    return bad_record("its first record makes no sense");
  return meta;
}

std::string encode_requests(const std::vector<std::uint64_t>& requests) {
  std::string value;
  for (const std::uint64_t request : requests) append_le(value, request);
  append_checksum(value, 0, kRequestsKey);
  return value;
}

Result<std::vector<std::uint64_t>> decode_requests(std::string_view value) {
  const auto payload = find_checked(kRequestsKey, value);
  if (!payload || payload->size() % 8 != 0) return bad_record("its list of requests is damaged");
  std::vector<std::uint64_t> requests(payload->size() / 8);
  ByteReader from(*payload);
  for (std::uint64_t& request : requests) request = from.le<std::uint64_t>();
  return requests;
}

void for_each_key(const tree::Change& change, FunctionRef<void(std::string_view key)> dirty,
                  FunctionRef<void(std::string_view prefix)> erased_prefix) {
  struct Keys {
    FunctionRef<void(std::string_view)> dirty;
    FunctionRef<void(std::string_view)> erased_prefix;
    void operator()(const tree::PutNode& one) const { dirty(ino_key(kNodeKey, one.ino)); }
    void operator()(const tree::EraseNode& one) const {
      dirty(ino_key(kNodeKey, one.ino));
      dirty(ino_key(kInlineKey, one.ino));
      dirty(ino_key(kExtentsKey, one.ino));
      erased_prefix(ino_key(kXattrKey, one.ino));
    }
    void operator()(const tree::PutEntry& one) const { dirty(entry_key(one.dir, one.name)); }
    void operator()(const tree::PutTombstone& one) const { dirty(entry_key(one.dir, one.name)); }
    void operator()(const tree::EraseEntry& one) const { dirty(entry_key(one.dir, one.name)); }
    void operator()(const tree::PutXattr& one) const { dirty(xattr_key(one.ino, one.name)); }
    void operator()(const tree::PutXattrTombstone& one) const { dirty(xattr_key(one.ino, one.name)); }
    void operator()(const tree::EraseXattr& one) const { dirty(xattr_key(one.ino, one.name)); }
    void operator()(const tree::PutInline& one) const { dirty(ino_key(kInlineKey, one.ino)); }
    void operator()(const tree::AddExtent& one) const { dirty(ino_key(kExtentsKey, one.ino)); }
    void operator()(const tree::TrimExtents& one) const { dirty(ino_key(kExtentsKey, one.ino)); }
  };
  std::visit(Keys{dirty, erased_prefix}, change);
}

bool append_record_value(std::string& to, const DeltaState& state, std::string_view key) {
  const std::size_t start = to.size();
  const Ino ino{load_be<std::uint64_t>(key.data() + kInoAt)};
  switch (key.front()) {
    case kNodeKey: {
      const auto node = state.find_node(ino);
      if (!node) return false;
      append_node(to, *node);
      break;
    }
    case kEntryKey: {
      const auto entry = state.find_entry(ino, key.substr(kEntryNameAt));
      if (entry.state == tree::EntryState::kAbsent) return false;
      to.push_back(static_cast<char>(entry.state == tree::EntryState::kPresent ? kHere : kTombstone));
      to.push_back(static_cast<char>(entry.kind));
      append_le(to, to_number(entry.ino));
      break;
    }
    case kXattrKey: {
      std::string value;
      const auto found = state.find_xattr(ino, key.substr(kXattrNameAt), value);
      if (found == tree::XattrState::kAbsent) return false;
      to.push_back(static_cast<char>(found == tree::XattrState::kPresent ? kHere : kTombstone));
      to += value;
      break;
    }
    case kInlineKey: {
      const std::string* bytes = state.find_inline(ino);
      if (bytes == nullptr) return false;
      to += *bytes;
      break;
    }
    default: {
      const auto extents = state.extents(ino);
      if (extents.empty()) return false;
      append_extents(to, extents);
      break;
    }
  }
  append_checksum(to, start, key);
  return true;
}

Result<void> load_record(DeltaState& state, std::string_view key, std::string_view value) {
  const auto payload = find_checked(key, value);
  if (!payload) return bad_record("a checksum is wrong");
  if (key == kMetaKey || key == kRequestsKey) return {};
  if (key.size() < kCookieAt) return bad_record("a key is too short");
  ByteReader from(*payload);
  const Ino ino{load_be<std::uint64_t>(key.data() + kInoAt)};
  DataEffects effects;  // what a checkpoint holds is flushed
  switch (key.front()) {
    case kNodeKey: {
      tree::PutNode put{ino, {}};
      if (key.size() != kCookieAt || !read_node(from, put.node) || !from.done())
        return bad_record("not a node");
      state.apply(put, effects);
      state.clear_written(ino);
      return {};
    }
    case kEntryKey: {
      const auto which = from.le<std::uint8_t>();
      const auto kind = from.le<std::uint8_t>();
      const Ino target{from.le<std::uint64_t>()};
      if (key.size() <= kEntryNameAt || key.size() > kEntryNameAt + tree::kMaxName || !from.done())
        return bad_record("not an entry");
      std::string name(key.substr(kEntryNameAt));
      if (load_be<std::uint64_t>(key.data() + kCookieAt) != to_number(tree::name_cookie(name)))
        return bad_record("an entry is out of place");
      if (which == kTombstone) {
        state.apply(tree::PutTombstone{ino, std::move(name)}, effects);
      } else if (which == kHere && is_node_kind(kind)) {
        state.apply(tree::PutEntry{ino, std::move(name), target, static_cast<tree::NodeKind>(kind)}, effects);
      } else {
        return bad_record("not an entry");
      }
      return {};
    }
    case kXattrKey: {
      const auto which = from.le<std::uint8_t>();
      if (key.size() <= kXattrNameAt || key.size() > kXattrNameAt + tree::kMaxName || !from.ok())
        return bad_record("not an xattr");
      std::string name(key.substr(kXattrNameAt));
      if (which == kTombstone && from.rest().empty()) {
        state.apply(tree::PutXattrTombstone{ino, std::move(name)}, effects);
      } else if (which == kHere) {
        state.apply(tree::PutXattr{ino, std::move(name), std::string(from.rest())}, effects);
      } else {
        return bad_record("not an xattr");
      }
      return {};
    }
    case kInlineKey:
      if (key.size() != kCookieAt) break;
      state.apply(tree::PutInline{ino, std::string(*payload)}, effects);
      return {};
    case kExtentsKey: {
      std::vector<tree::Extent> extents;
      if (key.size() != kCookieAt || !read_extents(*payload, extents))
        return bad_record("not a list of extents");
      state.load_extents(ino, extents);
      return {};
    }
    default: break;
  }
  return bad_record("a key of no known kind");
}

}  // namespace layerfs::upper
