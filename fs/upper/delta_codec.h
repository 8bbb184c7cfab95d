// SPDX-License-Identifier: Apache-2.0
// Bytes of nodes, changes and log bodies (DELTA.md), to and from values. Pure; any thread. Decoding is total:
// untrusted bytes give a value that the rest may use without further checks, or kCorrupt.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "fs/base/bytes.h"
#include "fs/base/result.h"
#include "fs/tree/upper_layer.h"
#include "fs/upper/data_name.h"

namespace layerfs::upper {

/// The first byte of a log body.
enum class BodyType : std::uint8_t { kChanges = 1, kMark = 2, kNumbers = 3, kData = 4, kFlushed = 5 };

/// All data of records up to `flushed_to` is on disk (DELTA.md, invariant 3).
struct LogMark {
  std::uint64_t flushed_to = 0;
};
/// Inode numbers below `limit` may have been given out.
struct LogNumbers {
  std::uint64_t limit = 0;
};
/// Bytes of a data file, from `offset` of that inode's data on; they die with the body that they were read
/// of.
struct LogData {
  DataName name;
  std::uint64_t offset = 0;
  std::string_view bytes;
};
/// The data files that data before this record was of have been flushed since.
struct LogFlushed {};
using LogBody = std::variant<tree::ChangeSet, LogMark, LogNumbers, LogData, LogFlushed>;
/// How much longer than its bytes the body of a LogData is.
inline constexpr std::size_t kLogDataOverhead = 18;

/// Errors: EINVAL or ENAMETOOLONG for a name or value that the format can't hold; `to` is then undefined.
Result<void> append_changes(std::string& to, const tree::ChangeSet& change);
void append_mark(std::string& to, LogMark mark);
void append_numbers(std::string& to, LogNumbers numbers);
void append_data(std::string& to, const LogData& data);
void append_flushed(std::string& to);
/// Errors: kCorrupt.
Result<LogBody> decode_body(std::string_view body);

void append_node(std::string& to, const tree::Node& node);
/// False: not a node.
bool read_node(ByteReader& from, tree::Node& node);
bool is_node_kind(std::uint8_t kind);

void append_extents(std::string& to, const std::vector<tree::Extent>& extents);
/// False: not sorted, disjoint, not touching extents within 2^63 bytes.
bool read_extents(std::string_view bytes, std::vector<tree::Extent>& extents);
/// True where offset + length is a valid file position.
bool is_extent(std::uint64_t offset, std::uint64_t length);

}  // namespace layerfs::upper
