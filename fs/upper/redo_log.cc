// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/redo_log.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <vector>

#include "fs/base/bytes.h"
#include "fs/base/log.h"
#include "fs/base/random.h"
#include "fs/base/scope_exit.h"
#include "fs/base/sys_file.h"
#include "fs/upper/crc32c.h"
#include "fs/upper/upper_file.h"

namespace layerfs::upper {

namespace {

constexpr std::size_t kPage = 4096;

/// Blocks for [offset, offset + size), so that a store to the mapping can't fail for want of them.
Result<void> allocate(int fd, std::uint64_t offset, std::size_t size, bool write_zeros) {
  bool must_write = write_zeros;
  if (fallocate(fd, 0, static_cast<off_t>(offset), static_cast<off_t>(size)) != 0) {
    const int code = errno;
    if (code != EOPNOTSUPP && code != ENOSYS && code != EINVAL) return system_error(code, "grow redo log");
    must_write = true;
  }
  if (!must_write) return {};
  // Zeroes turn unwritten extents into written ones now, so that the flush of an append commits no journal. A
  // write makes folios of its own size, and a store to the mapping dirties a whole folio: small ones, or each
  // flush would write 256 KiB for a record (a record and its flush on ext4 of Linux 6.18: 108-134 us with
  // such folios, 87 with pages, and 87 too where the record comes by pwrite(2)).
  const std::vector<std::byte> zeros(std::min(size, kPage));
  for (std::size_t done = 0; done < size; done += zeros.size())
    LAYERFS_TRY(pwrite_full(fd, zeros, offset + done));
  return {};
}

}  // namespace

RedoLog::RedoLog(std::string path, const Settings& settings)
    : path_(std::move(path)),
      settings_(settings),
      sync_(*settings.sync),
      segment_size_(settings.segment_size) {}

RedoLog::~RedoLog() {
  if (mapping_ != nullptr) munmap(mapping_, mapping_size_);
}

Result<void> RedoLog::map() {
  mapping_size_ = kLogHeaderSize + std::size_t{settings_.max_segments} * segment_size_;
  // Address space for every segment there may ever be; what lies behind the file's end is never touched.
  void* mapped = mmap(nullptr, mapping_size_, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
  if (mapped == MAP_FAILED) return system_error(errno, "map", path_);
  mapping_ = static_cast<char*>(mapped);
  // Nor may a fault read large folios in (allocate()). Advice: a kernel that takes none is only slower.
  (void)madvise(mapping_, mapping_size_, MADV_RANDOM);
  return {};
}

char* RedoLog::segment_start(std::uint32_t index) const {
  return mapping_ + kLogHeaderSize + std::size_t{index} * segment_size_;
}

Result<void> RedoLog::write_header(std::uint64_t start) {
  LogHeader header;
  header.is_volatile = settings_.is_volatile;
  header.boot_id = settings_.boot_id;
  header.log_id = log_id_;
  header.segment_size = segment_size_;
  header.start = start;
  return pwrite_full(file_.get(), as_bytes(encode_log_header(header)), 0);
}

/// A file with a header and nothing else, beside the place and then in it.
Result<void> RedoLog::create() {
  const std::string fresh = path_ + ".new";
  LAYERFS_TRY(remove_tree(fresh));
  LAYERFS_ASSIGN(file_, open_upper_file(fresh, O_RDWR | O_CREAT | O_EXCL, 0600));
  LAYERFS_TRY(write_header(1));
  if (!settings_.is_volatile) LAYERFS_TRY(sync_.sync_data(file_.get()));
  LAYERFS_TRY(rename_file(fresh, path_));
  if (settings_.is_volatile) return {};
  LAYERFS_ASSIGN(const Fd dir, layerfs::open_file(path_.substr(0, path_.rfind('/')), O_RDONLY | O_DIRECTORY));
  return sync_.sync_all(dir.get());
}

/// Throws the records away. The file says no longer how long it must be, then its segments go, then comes the
/// header that would not have known them: with either header, what a crash leaves has no record that counts.
Result<void> RedoLog::empty(std::uint64_t next_seq) {
  constexpr std::array<std::byte, 8> kNotTold{};
  LAYERFS_TRY(pwrite_full(file_.get(), kNotTold, kSegmentsAt));
  if (ftruncate(file_.get(), static_cast<off_t>(kLogHeaderSize)) != 0)
    return system_error(errno, "empty", path_);
  return write_header(next_seq);
}

/// For whoever finds the file shorter. Requires: they are there.
void RedoLog::note_segments(std::uint32_t segments) {
  std::uint64_t value = encode_segments(log_id_, segments);
  if constexpr (std::endian::native == std::endian::big) value = std::byteswap(value);
  auto* at = reinterpret_cast<std::uint64_t*>(mapping_ + kSegmentsAt);
  std::atomic_ref<std::uint64_t>(*at).store(value, std::memory_order_relaxed);
}

Result<std::unique_ptr<RedoLog>> RedoLog::start(const std::string& path, const Settings& settings,
                                                std::uint64_t next_seq) {
  std::unique_ptr<RedoLog> log(new RedoLog(path, settings));
  log->log_id_ = random_id();  // to differ from the ids of this file's earlier lives
  auto opened = open_upper_file(path, O_RDWR);
  if (!opened && opened.error().code != ENOENT) return std::unexpected(std::move(opened).error());
  bool has_header = false;
  if (opened) {
    log->file_ = std::move(*opened);
    LAYERFS_ASSIGN(const struct stat st, stat_fd(log->file_.get()));
    if (st.st_size >= static_cast<off_t>(kLogHeaderSize)) {
      std::string page(kLogHeaderSize, '\0');
      LAYERFS_TRY(pread_full(log->file_.get(), std::as_writable_bytes(std::span(page)), 0));
      has_header = page.find_first_not_of('\0') != std::string::npos;  // of zeros: it never reached the disk
    }
  }
  if (!has_header) LAYERFS_TRY(log->create());
  LAYERFS_TRY(log->empty(next_seq));
  // Where it cannot begin, the file goes on saying that nothing is in use.
  ScopeExit undo([&] {
    if (auto emptied = log->empty(next_seq); !emptied) log_warning("{}", emptied.error().message());
  });
  LAYERFS_TRY(log->map());
  log->last_seq_ = next_seq - 1;
  for (int ready = 0; ready < 2; ++ready) LAYERFS_TRY(log->add_segment());
  undo.release();
  return log;
}

Result<std::unique_ptr<RedoLog>> RedoLog::resume(const std::string& path, const Settings& settings,
                                                 const RedoScan& scan, std::uint64_t last_seq,
                                                 std::uint64_t covered) {
  std::unique_ptr<RedoLog> log(new RedoLog(path, settings));
  LAYERFS_ASSIGN(log->file_, open_upper_file(path, O_RDWR));
  log->segment_size_ = scan.header().segment_size;
  log->log_id_ = scan.header().log_id;
  log->total_ = std::min(scan.segment_count(), settings.max_segments);
  // A copy of the directory may have come with holes: fill them now rather than by a store that can't.
  const off_t whole = static_cast<off_t>(kLogHeaderSize + std::size_t{log->total_} * log->segment_size_);
  if (fallocate(log->file_.get(), 0, 0, whole) != 0 && errno != EOPNOTSUPP && errno != ENOSYS)
    return system_error(errno, "allocate", path);
  LAYERFS_TRY(log->write_header(scan.header().start));
  LAYERFS_TRY(log->map());
  log->note_segments(log->total_);
  log->last_seq_ = last_seq;
  // Segments not in use first, then those whose records are covered, oldest first (invariant 3).
  std::vector<bool> in_use(scan.segment_count(), false);
  for (const ScannedSegment& segment : scan.segments())
    if (segment.end_seq > segment.first_seq && segment.end_seq - 1 <= last_seq) in_use[segment.index] = true;
  for (std::uint32_t index = 0; index < log->total_; ++index)
    if (!in_use[index]) log->free_.push_back(index);
  for (const ScannedSegment& segment : scan.segments()) {
    if (!in_use[segment.index]) continue;
    if (segment.index >= log->total_) return corrupt_error("open", path, "more segments than are allowed");
    log->used_.push_back({segment.index, segment.first_seq, segment.end_seq - 1});
  }
  log->release(covered);
  while (log->free_.size() < 2 && log->total_ < settings.max_segments) {
    // Not being able to grow is no reason not to open: the reserve lets files be removed.
    if (!log->add_segment()) break;
  }
  return log;
}

bool RedoLog::take_free_locked(AppendKind kind) {
  if (free_.empty() || (free_.size() == 1 && kind == AppendKind::kNormal)) return false;
  const std::uint32_t index = free_.front();
  free_.pop_front();
  const std::uint64_t last = last_seq_.load(std::memory_order_relaxed);
  if (at_ != nullptr) used_.push_back({active_.index, active_.first_seq, last});
  active_ = {index, last + 1, 0};
  on_reserve_ = free_.empty();
  attention_ = true;
  reserve_refilled_ = false;
  char* start = segment_start(index);
  const std::string header = encode_segment_header(log_id_, last + 1);
  std::memcpy(start, header.data(), header.size());
  at_ = start + kSegmentHeaderSize;
  end_ = start + segment_size_;
  half_ = start + segment_size_ / 2;
  return true;
}

Result<void> RedoLog::next_segment(AppendKind kind) {
  // Two may be missing: the one that is wanted, and the one that is kept free (invariant 4).
  for (int missing = 2;; --missing) {
    {
      const std::lock_guard lock(segments_mutex_);
      if (take_free_locked(kind)) return {};
    }
    if (missing == 0) return errno_error(ENOSPC);
    LAYERFS_TRY(add_segment());
  }
}

Result<std::uint64_t> RedoLog::append(std::string_view body, std::uint32_t body_crc, AppendKind kind) {
  if (body.size() > max_body()) return errno_error(E2BIG);
  const std::size_t size = record_size(body.size());
  const std::size_t reserve = kind == AppendKind::kMark ? 0 : kMarkReserve;
  if (on_reserve_ && kind == AppendKind::kNormal) {
    const std::lock_guard lock(segments_mutex_);
    if (reserve_refilled_) on_reserve_ = false;
  }
  const bool refused = on_reserve_ && kind == AppendKind::kNormal;
  if (at_ == nullptr || refused || static_cast<std::size_t>(end_ - at_) < size + reserve)
    LAYERFS_TRY(next_segment(kind));
  const std::uint64_t seq = last_seq_.load(std::memory_order_relaxed) + 1;
  // What lies here, of an earlier use of the segment, is no record's number from now on: the header's first
  // half would otherwise look like that of a record whose number was damaged.
  const std::atomic_ref<std::uint64_t> number_place(*reinterpret_cast<std::uint64_t*>(at_ + 8));
  number_place.store(0, std::memory_order_relaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  std::memcpy(at_ + kRecordHeaderSize, body.data(), body.size());
  const auto header = encode_record_header(body_crc, static_cast<std::uint32_t>(body.size()), seq ^ log_id_);
  // The number last, at once: where the process dies before it, there is no record; where it is there, all is
  // (RedoScan::is_damaged_record()).
  std::memcpy(at_, header.data(), 8);
  std::uint64_t number = 0;
  std::memcpy(&number, header.data() + 8, sizeof number);
  number_place.store(number, std::memory_order_release);
  at_ += size;
  last_seq_.store(seq, std::memory_order_release);
  if (at_ >= half_) {
    half_ = end_ + 1;
    const std::lock_guard lock(segments_mutex_);
    if (free_.size() < 2 && total_ < settings_.max_segments)
      wants_segment_.store(true, std::memory_order_relaxed);
    attention_ = true;
  }
  return seq;
}

Result<void> RedoLog::walk(std::uint64_t from, std::uint64_t to,
                           FunctionRef<Result<void>(std::uint64_t seq, std::string_view body)> visit) const {
  std::vector<Segment> segments;
  {
    const std::lock_guard lock(segments_mutex_);
    segments.assign(used_.begin(), used_.end());
    segments.push_back({active_.index, active_.first_seq, to});
  }
  for (const Segment& segment : segments) {
    if (segment.first_seq == 0 || segment.last_seq < from || segment.first_seq > to) continue;
    std::string_view rest(segment_start(segment.index), segment_size_);
    rest.remove_prefix(kSegmentHeaderSize);
    for (std::uint64_t seq = segment.first_seq; seq <= std::min(segment.last_seq, to); ++seq) {
      const auto body = find_record(rest, seq ^ log_id_);
      if (!body) return corrupt_error("read", path_, "a record is damaged");
      if (seq >= from) LAYERFS_TRY(visit(seq, *body));
      rest.remove_prefix(record_size(body->size()));
    }
  }
  return {};
}

void RedoLog::release(std::uint64_t covered) {
  const std::lock_guard lock(segments_mutex_);
  while (!used_.empty() && used_.front().last_seq <= covered) {
    free_.push_back(used_.front().index);
    used_.pop_front();
  }
  if (!free_.empty()) reserve_refilled_ = true;
}

std::uint64_t RedoLog::oldest_end() const {
  const std::lock_guard lock(segments_mutex_);
  return used_.empty() ? 0 : used_.front().last_seq;
}

bool RedoLog::has_room() const {
  const std::lock_guard lock(segments_mutex_);
  return free_.size() >= 2;
}

std::size_t RedoLog::used_segments() const {
  const std::lock_guard lock(segments_mutex_);
  return used_.size() + 1;
}

Result<void> RedoLog::add_segment() {
  const std::lock_guard grow_lock(grow_mutex_);
  wants_segment_.store(false, std::memory_order_relaxed);
  std::uint32_t index = 0;
  {
    const std::lock_guard lock(segments_mutex_);
    if (total_ >= settings_.max_segments) return errno_error(ENOSPC);
    index = total_;
  }
  const std::uint64_t offset = kLogHeaderSize + std::uint64_t{index} * segment_size_;
  if (auto allocated = allocate(file_.get(), offset, segment_size_, !settings_.is_volatile); !allocated) {
    if (ftruncate(file_.get(), static_cast<off_t>(offset)) != 0)
      log_warning("cut '{}': {}", path_, errno_text(errno));
    return allocated;
  }
  const std::lock_guard lock(segments_mutex_);
  ++total_;
  note_segments(total_);
  free_.push_back(index);
  reserve_refilled_ = true;
  return {};
}

void RedoLog::unseal() {
  if (at_ != nullptr && end_ == at_) end_ = segment_start(active_.index) + segment_size_;
}

Result<void> RedoLog::flush() { return sync_.sync_data(file_.get()); }

Result<void> RedoLog::close_empty(std::uint64_t next_seq) {
  at_ = nullptr;
  return empty(next_seq);
}

}  // namespace layerfs::upper
