// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/checkpoint_fill.h"

#include <algorithm>
#include <shared_mutex>
#include <string>
#include <utility>
#include <vector>

#include "fs/upper/delta_codec.h"
#include "fs/upper/delta_records.h"

namespace layerfs::upper {

namespace {

/// Records taken between two takings of the state lock.
constexpr std::size_t kPiece = 256;

/// Holds changes back until the state lock is released.
class HeldRecords final : public RecordSink {
 public:
  Result<void> put(std::string_view key, std::string_view value) override { return hold(true, key, value); }
  Result<void> erase(std::string_view key) override { return hold(false, key, {}); }
  Result<void> erase_prefix(std::string_view) override {
    return errno_error(EINVAL);
  }  // nobody holds one back

  /// Gives all of them to `sink` and forgets them.
  Result<void> release(RecordSink& sink) {
    std::string_view rest = bytes_;
    for (const Held& one : held_) {
      const std::string_view key = rest.substr(0, one.key_size);
      const std::string_view value = rest.substr(one.key_size, one.value_size);
      LAYERFS_TRY(one.is_put ? sink.put(key, value) : sink.erase(key));
      rest.remove_prefix(one.key_size + one.value_size);
    }
    bytes_.clear();
    held_.clear();
    return {};
  }

 private:
  struct Held {
    std::size_t key_size;
    std::size_t value_size;
    bool is_put;
  };
  Result<void> hold(bool is_put, std::string_view key, std::string_view value) {
    bytes_ += key;
    bytes_ += value;
    held_.push_back({key.size(), value.size(), is_put});
    return {};
  }
  std::string bytes_;
  std::vector<Held> held_;
};

void sort_unique(std::vector<std::string>& keys) {
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
}

enum class IfAbsent : std::uint8_t { kErase, kSkip };

Result<void> write_records(DeltaCore& core, RecordSink& sink, std::span<const std::string> keys,
                           IfAbsent if_absent) {
  HeldRecords held;
  std::string value;
  for (std::size_t begin = 0; begin < keys.size(); begin += kPiece) {
    const std::size_t end = std::min(begin + kPiece, keys.size());
    {
      const std::shared_lock lock(core.state_mutex);
      for (std::size_t i = begin; i < end; ++i) {
        value.clear();
        const bool is_there = append_record_value(value, core.state, keys[i]);
        if (is_there)
          LAYERFS_TRY(held.put(keys[i], value));
        else if (if_absent == IfAbsent::kErase)
          LAYERFS_TRY(held.erase(keys[i]));
      }
    }
    LAYERFS_TRY(held.release(sink));
  }
  return {};
}

}  // namespace

Result<void> write_changed_records(DeltaCore& core, RecordSink& sink,
                                   FunctionRef<Result<void>(BodyVisitor visit)> for_each_body) {
  std::vector<std::string> keys;
  std::vector<std::string> prefixes;
  const auto collect = [&](std::uint64_t, std::string_view body) -> Result<void> {
    LAYERFS_ASSIGN(const LogBody decoded, decode_body(body));
    const auto* set = std::get_if<tree::ChangeSet>(&decoded);
    if (set == nullptr) return {};
    for (const tree::Change& change : set->changes)
      for_each_key(
          change, [&](std::string_view key) { keys.emplace_back(key); },
          [&](std::string_view prefix) { prefixes.emplace_back(prefix); });
    return {};
  };
  LAYERFS_TRY(for_each_body(collect));
  sort_unique(keys);
  sort_unique(prefixes);
  // Prefixes first: what was put again after an erasure is among the keys.
  for (const std::string& prefix : prefixes) LAYERFS_TRY(sink.erase_prefix(prefix));
  return write_records(core, sink, keys, IfAbsent::kErase);
}

Result<void> write_present_records(DeltaCore& core, RecordSink& sink, std::span<const std::string> keys) {
  return write_records(core, sink, keys, IfAbsent::kSkip);
}

Result<void> write_all_records(DeltaCore& core, RecordSink& sink) {
  // What comes to the state after these lists were made is in the log, and applied again from there.
  std::vector<tree::Ino> inodes;
  std::vector<tree::Ino> directories;
  {
    const std::shared_lock lock(core.state_mutex);
    inodes = core.state.inodes();
    directories = core.state.directories();
  }
  HeldRecords held;
  for (std::size_t begin = 0; begin < inodes.size(); begin += kPiece) {
    const std::size_t end = std::min(begin + kPiece, inodes.size());
    {
      const std::shared_lock lock(core.state_mutex);
      for (std::size_t i = begin; i < end; ++i) LAYERFS_TRY(put_inode_records(held, core.state, inodes[i]));
    }
    LAYERFS_TRY(held.release(sink));
  }
  for (const tree::Ino dir : directories) {
    tree::DirCookie after = tree::kDirStart;
    for (bool more = true; more;) {
      {
        const std::shared_lock lock(core.state_mutex);
        LAYERFS_ASSIGN(more, put_entry_records(held, core.state, dir, kPiece, after));
      }
      LAYERFS_TRY(held.release(sink));
    }
  }
  return {};
}

}  // namespace layerfs::upper
