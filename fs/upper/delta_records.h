// SPDX-License-Identifier: Apache-2.0
// The checkpoint's records (DELTA.md, "checkpoint"): keys and values of a DeltaState, to and from bytes.
// Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/function_ref.h"
#include "fs/base/result.h"
#include "fs/tree/upper_layer.h"
#include "fs/upper/checkpoint_file.h"
#include "fs/upper/delta_state.h"

namespace layerfs::upper {

/// The `M` record.
struct CheckpointMeta {
  std::uint64_t covered = 0;
  std::uint64_t needs = 0;
  std::uint64_t next_ino = tree::kFirstUpperIno;
  bool operator==(const CheckpointMeta&) const = default;
};
inline constexpr std::string_view kMetaKey = "M";
std::string encode_meta(const CheckpointMeta& meta);
/// Errors: kCorrupt.
Result<CheckpointMeta> decode_meta(std::string_view value);

/// The `Q` record: the latest request numbers up to `covered`, oldest first; the log may not have them any
/// more.
inline constexpr std::string_view kRequestsKey = "Q";
inline constexpr std::size_t kRequestsStored = 4096;
std::string encode_requests(const std::vector<std::uint64_t>& requests);
/// Errors: kCorrupt.
Result<std::vector<std::uint64_t>> decode_requests(std::string_view value);

/// Calls `dirty` for each key that the change may have changed, `erased_prefix` for each prefix all of whose
/// keys it may have erased. Views die with the call.
void for_each_key(const tree::Change& change, FunctionRef<void(std::string_view key)> dirty,
                  FunctionRef<void(std::string_view prefix)> erased_prefix);

/// Appends the value that `state` has for `key`; false where it has none.
/// Requires: a key made by for_each_key.
bool append_record_value(std::string& to, const DeltaState& state, std::string_view key);

/// Puts every record of an inode but its entries: its node, xattrs, inline bytes and extents.
Result<void> put_inode_records(RecordSink& sink, const DeltaState& state, tree::Ino ino);
/// Puts about `count` records of a directory's entries behind `after`, and says in `after` where to go on;
/// false: that was the last of them.
Result<bool> put_entry_records(RecordSink& sink, const DeltaState& state, tree::Ino dir, std::size_t count,
                               tree::DirCookie& after);

/// Brings a checkpoint's changes into a state.
class RecordLoader final : public RecordSink {
 public:
  explicit RecordLoader(DeltaState& state) : state_(state) {}
  Result<void> put(std::string_view key, std::string_view value) override;
  Result<void> erase(std::string_view key) override;
  Result<void> erase_prefix(std::string_view prefix) override;

  bool any() const { return any_; }
  /// Nullopt: there was no `M` record.
  const std::optional<CheckpointMeta>& meta() const { return meta_; }
  const std::vector<std::uint64_t>& requests() const { return requests_; }

 private:
  Result<void> put_entry(std::string_view key, std::string_view value);
  Result<void> put_xattr(std::string_view key, std::string_view value);

  DeltaState& state_;
  bool any_ = false;
  std::optional<CheckpointMeta> meta_;
  std::vector<std::uint64_t> requests_;
};

}  // namespace layerfs::upper
