// SPDX-License-Identifier: Apache-2.0
// The checkpoint's records (DELTA.md, "delta.lmdb"): keys and values of a DeltaState, to and from bytes.
// Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/function_ref.h"
#include "fs/base/result.h"
#include "fs/tree/upper_layer.h"
#include "fs/upper/delta_state.h"

namespace layerfs::upper {

/// The `M` record.
struct CheckpointMeta {
  std::uint64_t covered = 0;
  std::uint64_t needs = 0;
  std::uint64_t next_ino = tree::kFirstUpperIno;
};
inline constexpr std::string_view kMetaKey = "M";
std::string encode_meta(const CheckpointMeta& meta);
/// `value` as it is in the file. Errors: kCorrupt, kUnsupported (version).
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

/// Appends the value that `state` has for `key`, checksum included; false where it has none.
/// Requires: a key made by for_each_key.
bool append_record_value(std::string& to, const DeltaState& state, std::string_view key);

/// Puts one record into `state`; `M` and `Q` are passed over. Errors: kCorrupt.
Result<void> load_record(DeltaState& state, std::string_view key, std::string_view value);

}  // namespace layerfs::upper
