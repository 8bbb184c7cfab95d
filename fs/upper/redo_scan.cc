// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/redo_scan.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>

#include "fs/base/bytes.h"
#include "fs/upper/crc32c.h"

namespace layerfs::upper {

namespace {

constexpr std::string_view kRedoMagic = "LFSREDO1";
// Has no kShared; 2 has no data in it; up to 3 records bear their plain numbers, and segments are not
// counted.
constexpr std::uint32_t kOldestRedoVersion = 1;
constexpr std::uint32_t kFlagVolatile = 1;
constexpr std::uint32_t kSegmentMagic = 0x47455352;  // "RSEG"
constexpr std::size_t kHeaderFields = 56;
/// More than a log can have: what claims to lie further behind the last record is not one.
constexpr std::uint64_t kMostRecords =
    kMaxSegments * std::uint64_t{kMaxSegmentSize} / (kRecordHeaderSize + 8);

std::unexpected<Error> bad_log(std::string_view reason) { return corrupt_error("read redo log", {}, reason); }

Result<LogHeader> parse_header(std::string_view page) {
  if (page.substr(0, kRedoMagic.size()) != kRedoMagic) return bad_log("not a redo log");
  ByteReader from(page.substr(kRedoMagic.size(), kHeaderFields + 4 - kRedoMagic.size()));
  LogHeader header;
  header.version = from.le<std::uint32_t>();
  if (header.version < kOldestRedoVersion || header.version > kRedoVersion)
    return unsupported_error("read redo log", {}, fmt::format("version {} is not known", header.version));
  const auto flags = from.le<std::uint32_t>();
  const std::string_view boot_id = from.take(header.boot_id.size());
  header.log_id = from.le<std::uint64_t>();
  header.segment_size = from.le<std::uint32_t>();
  const auto zero = from.le<std::uint32_t>();
  header.start = from.le<std::uint64_t>();
  const auto crc = from.le<std::uint32_t>();
  if (!from.done() || crc != crc32c(page.substr(0, kHeaderFields)))
    return bad_log("the header's checksum is wrong");
  std::memcpy(header.boot_id.data(), boot_id.data(), boot_id.size());
  header.is_volatile = (flags & kFlagVolatile) != 0;
  if ((flags & ~kFlagVolatile) != 0 || zero != 0 || header.start == 0 ||
      !std::has_single_bit(header.segment_size) || header.segment_size < kMinSegmentSize ||
      header.segment_size > kMaxSegmentSize)
    return bad_log("the header makes no sense");
  if (header.version >= 4) {
    const auto segments = load_le<std::uint64_t>(page.data() + kSegmentsAt);
    header.segments = static_cast<std::uint32_t>(segments);
    if (segments != 0 && segments != encode_segments(header.log_id, header.segments))
      return bad_log("the number of its segments is damaged");
  }
  return header;
}

/// The number of the first record, where the segment is in use by this log.
std::optional<std::uint64_t> find_segment(std::string_view segment, std::uint64_t log_id) {
  ByteReader from(segment);
  const auto magic = from.le<std::uint32_t>();
  const auto crc = from.le<std::uint32_t>();
  const auto id = from.le<std::uint64_t>();
  const auto first = from.le<std::uint64_t>();
  if (magic != kSegmentMagic || id != log_id || first == 0 || crc != crc32c(segment.substr(8, 16)))
    return std::nullopt;
  return first;
}

}  // namespace

std::string encode_log_header(const LogHeader& header) {
  std::string page(kRedoMagic);
  append_le(page, header.version);
  append_le(page, header.is_volatile ? kFlagVolatile : std::uint32_t{0});
  page.append(reinterpret_cast<const char*>(header.boot_id.data()), header.boot_id.size());
  append_le(page, header.log_id);
  append_le(page, header.segment_size);
  append_le(page, std::uint32_t{0});
  append_le(page, header.start);
  append_le(page, crc32c(page));
  page.resize(kSegmentsAt, '\0');
  if (header.segments != 0) append_le(page, encode_segments(header.log_id, header.segments));
  page.resize(kLogHeaderSize, '\0');
  return page;
}

std::uint64_t encode_segments(std::uint64_t log_id, std::uint32_t segments) {
  std::string fields;
  append_le(fields, log_id);
  append_le(fields, segments);
  return std::uint64_t{crc32c(fields)} << 32 | segments;
}

std::string encode_segment_header(std::uint64_t log_id, std::uint64_t first_seq) {
  std::string fields;
  append_le(fields, log_id);
  append_le(fields, first_seq);
  std::string header;
  append_le(header, kSegmentMagic);
  append_le(header, crc32c(fields));
  header += fields;
  header.resize(kSegmentHeaderSize, '\0');
  return header;
}

std::array<char, kRecordHeaderSize> encode_record_header(std::uint32_t body_crc, std::uint32_t body_size,
                                                         std::uint64_t mark) {
  std::array<char, kRecordHeaderSize> header;
  if constexpr (std::endian::native == std::endian::big) {
    body_size = std::byteswap(body_size);
    mark = std::byteswap(mark);
  }
  std::memcpy(header.data() + 4, &body_size, sizeof body_size);
  std::memcpy(header.data() + 8, &mark, sizeof mark);
  std::uint32_t crc = crc32c({header.data() + 4, kRecordHeaderSize - 4}, body_crc);
  if constexpr (std::endian::native == std::endian::big) crc = std::byteswap(crc);
  std::memcpy(header.data(), &crc, sizeof crc);
  return header;
}

std::optional<std::string_view> find_record(std::string_view bytes, std::uint64_t mark) {
  ByteReader from(bytes);
  const auto crc = from.le<std::uint32_t>();
  const auto size = from.le<std::uint32_t>();
  // The number first: at the end of a log it tells old bytes from a record without a checksum of them.
  if (from.le<std::uint64_t>() != mark || size == 0) return std::nullopt;
  const std::string_view body = from.take(size);
  if (!from.ok() || crc != crc32c(bytes.substr(4, kRecordHeaderSize - 4), crc32c(body))) return std::nullopt;
  return body;
}

std::string_view RedoScan::segment_bytes(std::uint32_t index) const {
  return bytes_.substr(kLogHeaderSize + std::size_t{index} * header_.segment_size, header_.segment_size);
}

Result<std::optional<RedoScan>> RedoScan::scan(std::string_view bytes) {
  const std::string_view page = bytes.substr(0, kLogHeaderSize);
  if (page.find_first_not_of('\0') == std::string_view::npos) return std::optional<RedoScan>{};
  if (page.size() < kLogHeaderSize) return bad_log("the header is cut short");
  RedoScan scan;
  LAYERFS_ASSIGN(scan.header_, parse_header(page));
  scan.bytes_ = bytes;
  // A segment that is not whole was never used: the file had no room to grow.
  const std::size_t whole = (bytes.size() - kLogHeaderSize) / scan.header_.segment_size;
  scan.segment_count_ = static_cast<std::uint32_t>(std::min(whole, kMaxSegments));
  for (std::uint32_t index = 0; index < scan.segment_count_; ++index) {
    const std::string_view segment = scan.segment_bytes(index);
    const auto first = find_segment(segment, scan.header_.log_id);
    if (!first) continue;
    ScannedSegment found{index, *first, *first, kSegmentHeaderSize};
    while (found.end_at < segment.size()) {
      const auto body = find_record(segment.substr(found.end_at), scan.header_.record_mark(found.end_seq));
      if (!body) break;
      ++found.end_seq;
      found.end_at += record_size(body->size());
    }
    scan.segments_.push_back(found);
  }
  std::sort(scan.segments_.begin(), scan.segments_.end(),
            [](const ScannedSegment& a, const ScannedSegment& b) {
              return a.first_seq != b.first_seq ? a.first_seq < b.first_seq : a.end_seq < b.end_seq;
            });
  return std::optional<RedoScan>(std::move(scan));
}

Result<std::uint64_t> RedoScan::for_each_from(
    std::uint64_t from, FunctionRef<Result<void>(std::uint64_t seq, std::string_view body)> visit) const {
  std::uint64_t next = from;
  for (const ScannedSegment& segment : segments_) {
    // One whose first number is too high starts after a hole; one that ends too low has nothing to add.
    if (segment.first_seq > next) break;
    if (segment.end_seq <= next) continue;
    const std::string_view bytes = segment_bytes(segment.index);
    std::size_t at = kSegmentHeaderSize;
    for (std::uint64_t seq = segment.first_seq; seq < segment.end_seq; ++seq) {
      ByteReader header(bytes.substr(at));
      header.le<std::uint32_t>();
      const auto size = header.le<std::uint32_t>();
      if (seq >= next) LAYERFS_TRY(visit(seq, bytes.substr(at + kRecordHeaderSize, size)));
      at += record_size(size);
    }
    next = segment.end_seq;
  }
  return next - 1;
}

Result<void> RedoScan::for_each_below(
    std::uint64_t before, FunctionRef<Result<void>(std::uint64_t seq, std::string_view body)> visit) const {
  for (const ScannedSegment& segment : segments_) {
    const std::string_view bytes = segment_bytes(segment.index);
    std::size_t at = kSegmentHeaderSize;
    for (std::uint64_t seq = segment.first_seq; seq < std::min(segment.end_seq, before); ++seq) {
      ByteReader header(bytes.substr(at));
      header.le<std::uint32_t>();
      const auto size = header.le<std::uint32_t>();
      LAYERFS_TRY(visit(seq, bytes.substr(at + kRecordHeaderSize, size)));
      at += record_size(size);
    }
  }
  return {};
}

bool RedoScan::has_records_beyond(std::uint64_t last) const {
  return std::any_of(segments_.begin(), segments_.end(), [&](const ScannedSegment& segment) {
    return segment.end_seq > segment.first_seq && segment.first_seq > last + 1;
  });
}

Result<void> RedoScan::for_each_beyond(
    std::uint64_t last, FunctionRef<Result<void>(std::uint64_t seq, std::string_view body)> visit) const {
  if (header_.version < 4) return {};
  std::map<std::uint64_t, std::string_view> found;
  for (std::uint32_t index = 0; index < segment_count_; ++index) {
    const std::string_view segment = segment_bytes(index);
    std::size_t at = kSegmentHeaderSize;
    // What a segment that is whole so far has up to `last` need not be looked at again.
    for (const ScannedSegment& one : segments_)
      if (one.index == index && one.first_seq <= last + 1 && one.end_seq <= last + 1) at = one.end_at;
    while (at + kRecordHeaderSize < segment.size()) {
      const std::uint64_t seq = load_le<std::uint64_t>(segment.data() + at + 8) ^ header_.log_id;
      std::optional<std::string_view> body;
      if (seq > last && seq - last <= kMostRecords)
        body = find_record(segment.substr(at), header_.record_mark(seq));
      if (body) found.emplace(seq, *body);
      at += body ? record_size(body->size()) : 8;
    }
  }
  for (const auto& [seq, body] : found) LAYERFS_TRY(visit(seq, body));
  return {};
}

/// What is here is record `seq` but for a few bytes. Its number was stored last, so no death of the process
/// leaves that with another checksum. Where only the number is wrong, the checksum is that of the right one;
/// of a record that was being written when the process died the number is zero.
bool RedoScan::is_damaged_record(std::string_view bytes, std::uint64_t seq) const {
  ByteReader from(bytes);
  const auto crc = from.le<std::uint32_t>();
  const auto size = from.le<std::uint32_t>();
  const auto mark = from.le<std::uint64_t>();
  if (!from.ok()) return false;
  if (mark == header_.record_mark(seq)) return !find_record(bytes, mark);
  const std::string_view body = from.take(size);
  if (size == 0 || mark == 0 || !from.ok()) return false;
  const auto whole = encode_record_header(crc32c(body), size, header_.record_mark(seq));
  return load_le<std::uint32_t>(whole.data()) == crc;
}

const char* RedoScan::find_damage(std::uint64_t last) const {
  if (has_records_beyond(last)) return "records in the middle are damaged";
  if (header_.version < 4) return nullptr;
  if (segment_count_ < header_.segments) return "it was cut short";
  bool beyond = false;
  [[maybe_unused]] auto seen = for_each_beyond(last, [&](std::uint64_t, std::string_view) -> Result<void> {
    beyond = true;
    return {};
  });
  if (beyond) return "records in the middle are damaged";
  for (const ScannedSegment& segment : segments_)
    if (segment.end_seq == last + 1 &&
        is_damaged_record(segment_bytes(segment.index).substr(segment.end_at), last + 1))
      return "its last record is damaged";
  return nullptr;
}

}  // namespace layerfs::upper
