// SPDX-License-Identifier: Apache-2.0
// Reading a redo log (DELTA.md, "redo.log") from its bytes. Pure and total: whatever the bytes are, the
// answer is the records that are whole, or kCorrupt / kUnsupported. Used at open, for read-only opens and by
// the fuzzer.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/function_ref.h"
#include "fs/base/result.h"

namespace layerfs::upper {

inline constexpr std::size_t kLogHeaderSize = 4096;
inline constexpr std::size_t kSegmentHeaderSize = 32;
inline constexpr std::size_t kRecordHeaderSize = 16;
inline constexpr std::size_t kMaxSegments = 64;
inline constexpr std::uint32_t kMinSegmentSize = 16U << 10;
inline constexpr std::uint32_t kMaxSegmentSize = 16U << 20;
/// The end of each segment that only marks may use.
inline constexpr std::size_t kMarkReserve = 4096;

using BootId = std::array<std::uint8_t, 16>;

/// What this program writes. Logs of older versions are read (DELTA.md, "Versions").
inline constexpr std::uint32_t kRedoVersion = 4;

struct LogHeader {
  std::uint32_t version = kRedoVersion;
  bool is_volatile = false;
  BootId boot_id{};
  std::uint64_t log_id = 0;
  std::uint32_t segment_size = 1U << 20;
  std::uint64_t start = 1;  ///< records below it are in the checkpoint
  /// Whole segments that the file has at least; 0: not told.
  std::uint32_t segments = 0;

  /// What stands in a record for its number. Nobody who has only written the bytes that a record carries can
  /// make them look like another record, because the id is random and nobody else's to read.
  std::uint64_t record_mark(std::uint64_t seq) const { return version >= 4 ? seq ^ log_id : seq; }
};

/// The bytes of the header page; of a segment's header.
std::string encode_log_header(const LogHeader& header);
std::string encode_segment_header(std::uint64_t log_id, std::uint64_t first_seq);

/// Where the header page says how many segments there are, and what stands there: 8 bytes that are stored at
/// once.
inline constexpr std::size_t kSegmentsAt = 64;
std::uint64_t encode_segments(std::uint64_t log_id, std::uint32_t segments);

constexpr std::size_t record_size(std::size_t body_size) {
  return (kRecordHeaderSize + body_size + 7) & ~std::size_t{7};
}
/// The header of a record whose body has the checksum `body_crc`. `mark`: LogHeader::record_mark().
std::array<char, kRecordHeaderSize> encode_record_header(std::uint32_t body_crc, std::uint32_t body_size,
                                                         std::uint64_t mark);
/// The body at the front of `bytes` if that is the record with that mark, whole.
std::optional<std::string_view> find_record(std::string_view bytes, std::uint64_t mark);

/// A segment in use and the records in it.
struct ScannedSegment {
  std::uint32_t index = 0;
  std::uint64_t first_seq = 0;
  std::uint64_t end_seq = 0;                ///< one above its last whole record; first_seq where it has none
  std::size_t end_at = kSegmentHeaderSize;  ///< where that record ends
};

class RedoScan {
 public:
  /// Nullopt: no log at all (no bytes, or never flushed: a header page of zeros). `bytes` must outlive the
  /// scan. Errors: kCorrupt, kUnsupported (version).
  static Result<std::optional<RedoScan>> scan(std::string_view bytes);

  const LogHeader& header() const { return header_; }
  /// In order of their first records.
  const std::vector<ScannedSegment>& segments() const { return segments_; }
  /// Whole segments in the file, in use or not.
  std::uint32_t segment_count() const { return segment_count_; }

  /// Calls `visit` for each record from `from` on, as far as they follow one another, and returns the number
  /// of the last (from - 1: none).
  Result<std::uint64_t> for_each_from(
      std::uint64_t from, FunctionRef<Result<void>(std::uint64_t seq, std::string_view body)> visit) const;
  /// Every whole record below `before` that is still there, in no promised order.
  Result<void> for_each_below(
      std::uint64_t before, FunctionRef<Result<void>(std::uint64_t seq, std::string_view body)> visit) const;
  /// True where segments begin with whole records with numbers above `last` + 1: a hole, not a torn end.
  bool has_records_beyond(std::uint64_t last) const;
  /// Whole records with numbers above `last`, which for_each_from() did not reach, wherever they lie, in
  /// order. Of logs before version 4 none: what lies between records there may be made by anybody.
  Result<void> for_each_beyond(
      std::uint64_t last, FunctionRef<Result<void>(std::uint64_t seq, std::string_view body)> visit) const;
  /// After the death of the process alone: what record `last`, the last that for_each_from() reached, shows
  /// not to be the end of what was appended, in words; nullptr where nothing does.
  const char* find_damage(std::uint64_t last) const;

 private:
  std::string_view segment_bytes(std::uint32_t index) const;
  bool is_damaged_record(std::string_view bytes, std::uint64_t seq) const;
  std::string_view bytes_;
  LogHeader header_;
  std::uint32_t segment_count_ = 0;
  std::vector<ScannedSegment> segments_;
};

}  // namespace layerfs::upper
