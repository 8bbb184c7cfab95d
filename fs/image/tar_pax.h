// SPDX-License-Identifier: Apache-2.0
// Pax extended headers (POSIX pax, "Extended Header"): their records, and what the known keys mean.
// Pure; one thread.
//
// (1) A local header's record wins over a global one of the same key; an empty value takes the global away.
// (2) Sparse keys and xattrs of a local header never outlive its entry.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fs/base/function_ref.h"
#include "fs/base/result.h"
#include "fs/tree/layer_record.h"

namespace layerfs::image {

/// No pax header or GNU long name may be longer, nor all that are in force for one entry together (an xattr
/// is at most 64 KiB, a path 4 KiB).
inline constexpr std::uint64_t kMaxTarExtension = std::uint64_t{1} << 20;

/// Calls `visit` for each record. Errors: kInvalid, the reason only; those of `visit`.
Result<void> for_each_pax_record(
    std::string_view body, FunctionRef<Result<void>(std::string_view key, std::string_view value)> visit);

/// "-1.5" is one and a half seconds before 1970. Errors: kInvalid, the reason only.
Result<tree::Time> parse_pax_time(std::string_view text);
/// Decimal digits only. nullopt: not so, or above 2^63-1.
std::optional<std::int64_t> parse_decimal(std::string_view text);

/// The records that are in force for one entry.
class PaxState {
 public:
  Result<void> add_global(std::string_view body);
  Result<void> add_local(std::string_view body);
  /// After an entry: forgets the local header.
  void end_entry();

  /// nullptr: no such record, or an empty one.
  const std::string* find(std::string_view key) const;
  /// GNU.sparse.offset and .numbytes of format 0.0, in order: pairs one after another.
  const std::vector<std::string>& sparse_pairs() const { return sparse_pairs_; }
  /// From SCHILY.xattr.* and, where that has no such name, LIBARCHIVE.xattr.*; sorted by name.
  /// Errors: kInvalid: no name, a NUL in it, longer than 255; a value above 64 KiB or not base64.
  Result<tree::XattrList> xattrs() const;

 private:
  using Records = std::map<std::string, std::string, std::less<>>;
  Records global_;
  std::size_t global_bytes_ = 0;  ///< bounded by kMaxTarExtension, however many headers there are
  Records local_;
  std::size_t local_bytes_ = 0;  ///< likewise
  std::vector<std::string> sparse_pairs_;
};

}  // namespace layerfs::image
