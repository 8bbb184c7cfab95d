// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/delta_records.h"

#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "fs/base/bytes.h"
#include "fs/upper/delta_codec.h"

namespace layerfs::upper {

namespace {

using tree::Ino;

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

void append_entry(std::string& to, tree::EntryState state, tree::NodeKind kind, Ino ino) {
  to.push_back(static_cast<char>(state == tree::EntryState::kPresent ? kHere : kTombstone));
  to.push_back(static_cast<char>(kind));
  append_le(to, to_number(ino));
}

std::unexpected<Error> bad_record(std::string_view reason) {
  return corrupt_error("read checkpoint", {}, reason);
}

}  // namespace

std::string encode_meta(const CheckpointMeta& meta) {
  std::string value;
  append_le(value, meta.covered);
  append_le(value, meta.needs);
  append_le(value, meta.next_ino);
  return value;
}

Result<CheckpointMeta> decode_meta(std::string_view value) {
  ByteReader from(value);
  CheckpointMeta meta;
  meta.covered = from.le<std::uint64_t>();
  meta.needs = from.le<std::uint64_t>();
  meta.next_ino = from.le<std::uint64_t>();
  if (!from.done() || meta.needs < meta.covered || meta.next_ino < tree::kFirstUpperIno)
    return bad_record("what it covers makes no sense");
  return meta;
}

std::string encode_requests(const std::vector<std::uint64_t>& requests) {
  std::string value;
  for (const std::uint64_t request : requests) append_le(value, request);
  return value;
}

Result<std::vector<std::uint64_t>> decode_requests(std::string_view value) {
  if (value.size() % 8 != 0) return bad_record("its list of requests is damaged");
  std::vector<std::uint64_t> requests(value.size() / 8);
  ByteReader from(value);
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
      append_entry(to, entry.state, entry.kind, entry.ino);
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
  return true;
}

Result<void> put_inode_records(RecordSink& sink, const DeltaState& state, Ino ino) {
  std::string value;
  for (const char kind : {kNodeKey, kInlineKey, kExtentsKey}) {
    const std::string key = ino_key(kind, ino);
    value.clear();
    if (append_record_value(value, state, key)) LAYERFS_TRY(sink.put(key, value));
  }
  Result<void> done;
  state.list_xattrs(ino, [&](std::string_view name, tree::XattrState xattr, std::string_view bytes) {
    value.assign(1, static_cast<char>(xattr == tree::XattrState::kPresent ? kHere : kTombstone));
    value += bytes;
    done = sink.put(xattr_key(ino, name), value);
    return done.has_value();
  });
  return done;
}

Result<bool> put_entry_records(RecordSink& sink, const DeltaState& state, Ino dir, std::size_t count,
                               tree::DirCookie& after) {
  Result<void> done;
  std::size_t given = 0;
  bool more = false;
  std::string value;
  state.list_entries(dir, after, [&](const tree::UpperEntryView& entry) {
    // Names of one cookie are not torn apart: there is no way to go on between them.
    if (given >= count && entry.cookie != after) {
      more = true;
      return false;
    }
    value.clear();
    append_entry(value, entry.state, entry.kind, entry.ino);
    done = sink.put(entry_key(dir, entry.name), value);
    after = entry.cookie;
    ++given;
    return done.has_value();
  });
  if (!done) return std::unexpected(std::move(done).error());
  return more;
}

Result<void> RecordLoader::put(std::string_view key, std::string_view value) {
  any_ = true;
  if (key == kMetaKey) {
    LAYERFS_ASSIGN(meta_, decode_meta(value));
    return {};
  }
  if (key == kRequestsKey) {
    LAYERFS_ASSIGN(requests_, decode_requests(value));
    return {};
  }
  if (key.size() < kCookieAt) return bad_record("a key is too short");
  if (key.front() == kEntryKey) return put_entry(key, value);
  if (key.front() == kXattrKey) return put_xattr(key, value);
  if (key.size() != kCookieAt) return bad_record("a key is too long");
  const Ino ino{load_be<std::uint64_t>(key.data() + kInoAt)};
  DataEffects effects;  // what a checkpoint holds is flushed
  if (key.front() == kNodeKey) {
    ByteReader from(value);
    tree::PutNode change{ino, {}};
    if (!read_node(from, change.node) || !from.done()) return bad_record("not a node");
    state_.apply(change, effects);
    state_.clear_to_flush(ino);
    return {};
  }
  if (key.front() == kInlineKey) {
    state_.apply(tree::PutInline{ino, std::string(value)}, effects);
    return {};
  }
  std::vector<tree::Extent> extents;
  if (key.front() != kExtentsKey) return bad_record("a key of no known kind");
  if (!read_extents(value, extents)) return bad_record("not a list of extents");
  state_.load_extents(ino, extents);
  return {};
}

Result<void> RecordLoader::put_entry(std::string_view key, std::string_view value) {
  ByteReader from(value);
  const auto which = from.le<std::uint8_t>();
  const auto kind = from.le<std::uint8_t>();
  const Ino target{from.le<std::uint64_t>()};
  if (key.size() <= kEntryNameAt || key.size() > kEntryNameAt + tree::kMaxName || !from.done())
    return bad_record("not an entry");
  const Ino dir{load_be<std::uint64_t>(key.data() + kInoAt)};
  std::string name(key.substr(kEntryNameAt));
  if (load_be<std::uint64_t>(key.data() + kCookieAt) != to_number(tree::name_cookie(name)))
    return bad_record("an entry is out of place");
  DataEffects effects;
  if (which == kTombstone)
    state_.apply(tree::PutTombstone{dir, std::move(name)}, effects);
  else if (which == kHere && is_node_kind(kind))
    state_.apply(tree::PutEntry{dir, std::move(name), target, static_cast<tree::NodeKind>(kind)}, effects);
  else
    return bad_record("not an entry");
  return {};
}

Result<void> RecordLoader::put_xattr(std::string_view key, std::string_view value) {
  ByteReader from(value);
  const auto which = from.le<std::uint8_t>();
  if (key.size() <= kXattrNameAt || key.size() > kXattrNameAt + tree::kMaxName || !from.ok())
    return bad_record("not an xattr");
  const Ino ino{load_be<std::uint64_t>(key.data() + kInoAt)};
  std::string name(key.substr(kXattrNameAt));
  DataEffects effects;
  if (which == kTombstone && from.rest().empty())
    state_.apply(tree::PutXattrTombstone{ino, std::move(name)}, effects);
  else if (which == kHere)
    state_.apply(tree::PutXattr{ino, std::move(name), std::string(from.rest())}, effects);
  else
    return bad_record("not an xattr");
  return {};
}

Result<void> RecordLoader::erase(std::string_view key) {
  if (key.empty()) return {};  // a batch without a change
  if (key.size() < kCookieAt) return bad_record("a key is too short");
  const Ino ino{load_be<std::uint64_t>(key.data() + kInoAt)};
  DataEffects effects;
  switch (key.front()) {
    case kNodeKey: state_.drop_node(ino); return {};
    case kInlineKey: state_.drop_inline(ino); return {};
    case kExtentsKey: state_.apply(tree::TrimExtents{ino, 0}, effects); return {};
    case kXattrKey:
      state_.apply(tree::EraseXattr{ino, std::string(key.substr(kXattrNameAt))}, effects);
      return {};
    case kEntryKey:
      if (key.size() <= kEntryNameAt) break;
      state_.apply(tree::EraseEntry{ino, std::string(key.substr(kEntryNameAt))}, effects);
      return {};
    default: break;
  }
  return bad_record("a key of no known kind");
}

Result<void> RecordLoader::erase_prefix(std::string_view prefix) {
  if (prefix.size() != kXattrNameAt || prefix.front() != kXattrKey)
    return bad_record("not the prefix of xattrs");
  state_.drop_xattrs(Ino{load_be<std::uint64_t>(prefix.data() + kInoAt)});
  return {};
}

}  // namespace layerfs::upper
