// SPDX-License-Identifier: Apache-2.0
#include "fs/image/compress.h"

#include <fmt/format.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "fs/base/bytes.h"
#include "fs/base/check.h"

namespace layerfs::image {

namespace {

constexpr std::size_t kDictionary = 32 * 1024;
constexpr int kGzipDefaultLevel = 6;
constexpr int kZstdDefaultLevel = 3;
constexpr unsigned kMostThreads = 16;

unsigned thread_count(unsigned asked) {
  if (asked != 0) return std::min(asked, kMostThreads);
  return std::clamp(std::thread::hardware_concurrency(), 1U, kMostThreads);
}

class PlainEncoder final : public Encoder {
 public:
  explicit PlainEncoder(ByteSink sink) : sink_(std::move(sink)) {}
  Result<void> write(std::string_view bytes) override { return sink_(bytes); }
  Result<void> finish() override { return {}; }

 private:
  ByteSink sink_;
};

/// One piece of the input on its way through a worker.
struct Piece {
  std::string dictionary;
  std::string input;
  std::string output;
  uLong crc = 0;
  bool last = false;
  bool done = false;
  bool failed = false;
};

/// Deflates one piece: raw, byte-aligned at its end by an empty stored block (Z_SYNC_FLUSH), the last one
/// closed.
void deflate_piece(Piece& piece, int level) {
  z_stream stream{};
  piece.failed = true;
  if (deflateInit2(&stream, level, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK) return;
  if (!piece.dictionary.empty())
    deflateSetDictionary(&stream, reinterpret_cast<const Bytef*>(piece.dictionary.data()),
                         static_cast<uInt>(piece.dictionary.size()));
  // deflateBound() is for one Z_FINISH; a sync flush adds at most six bytes to it.
  piece.output.resize(deflateBound(&stream, piece.input.size()) + 16);
  stream.next_in = reinterpret_cast<Bytef*>(piece.input.data());
  stream.avail_in = static_cast<uInt>(piece.input.size());
  stream.next_out = reinterpret_cast<Bytef*>(piece.output.data());
  stream.avail_out = static_cast<uInt>(piece.output.size());
  int result = deflate(&stream, piece.last ? Z_FINISH : Z_SYNC_FLUSH);
  piece.failed = piece.last ? result != Z_STREAM_END : result != Z_OK || stream.avail_out == 0;
  piece.output.resize(piece.output.size() - stream.avail_out);
  deflateEnd(&stream);
  piece.crc = crc32_z(0, reinterpret_cast<const Bytef*>(piece.input.data()), piece.input.size());
}

class GzipEncoder final : public Encoder {
 public:
  GzipEncoder(int level, unsigned threads, ByteSink sink)
      : level_(level),
        most_waiting_(threads * 2),
        sink_(std::move(sink)),
        filling_(std::make_shared<Piece>()) {
    filling_->input.reserve(kGzipPiece);
    for (unsigned i = 0; i < threads; ++i) workers_.emplace_back([this] { work(); });
  }

  ~GzipEncoder() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    work_ready_.notify_all();
    for (auto& worker : workers_) worker.join();
  }
  GzipEncoder(const GzipEncoder&) = delete;
  GzipEncoder& operator=(const GzipEncoder&) = delete;

  Result<void> write(std::string_view bytes) override {
    while (!bytes.empty()) {
      if (filling_->input.size() == kGzipPiece) LAYERFS_TRY(hand_over());
      std::size_t take = std::min(bytes.size(), kGzipPiece - filling_->input.size());
      filling_->input.append(bytes.substr(0, take));
      bytes.remove_prefix(take);
    }
    return {};
  }

  Result<void> finish() override {
    filling_->last = true;
    LAYERFS_TRY(hand_over());
    while (!order_.empty()) LAYERFS_TRY(write_oldest());
    std::string trailer;
    append_le(trailer, static_cast<std::uint32_t>(crc_));
    append_le(trailer, static_cast<std::uint32_t>(total_));
    return sink_(trailer);
  }

 private:
  /// Queues the filled piece and begins the next one, whose dictionary is the end of this one's input.
  Result<void> hand_over() {
    auto next = std::make_shared<Piece>();
    if (!filling_->last) {
      const std::string& input = filling_->input;
      next->dictionary = input.substr(input.size() - std::min(input.size(), kDictionary));
      next->input.reserve(kGzipPiece);
    }
    order_.push_back(filling_);
    {
      std::lock_guard lock(mutex_);
      queue_.push_back(std::exchange(filling_, std::move(next)));
    }
    work_ready_.notify_one();
    while (order_.size() > most_waiting_) LAYERFS_TRY(write_oldest());
    return {};
  }

  Result<void> write_oldest() {
    std::shared_ptr<Piece> piece = std::move(order_.front());
    order_.pop_front();
    {
      std::unique_lock lock(mutex_);
      piece_done_.wait(lock, [&] { return piece->done; });
    }
    if (piece->failed) throw std::bad_alloc();  // deflate's only way to fail with a large enough output
    if (!header_written_) {
      header_written_ = true;
      // RFC 1952: deflate, no flags, no time, extra flags 0, "unknown" operating system.
      LAYERFS_TRY(sink_(std::string_view("\x1f\x8b\x08\0\0\0\0\0\0\xff", 10)));
    }
    crc_ = crc32_combine(crc_, piece->crc, static_cast<z_off_t>(piece->input.size()));
    total_ += piece->input.size();
    return sink_(piece->output);
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      work_ready_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
      if (stopping_) return;
      std::shared_ptr<Piece> piece = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      try {
        deflate_piece(*piece, level_);
      } catch (const std::bad_alloc&) {  // thread entry: the writer's thread throws it again
        piece->failed = true;
      }
      lock.lock();
      piece->done = true;
      piece_done_.notify_all();
    }
  }

  const int level_;
  const std::size_t most_waiting_;
  ByteSink sink_;
  std::shared_ptr<Piece> filling_;
  std::deque<std::shared_ptr<Piece>> order_;  // handed over, not yet written
  uLong crc_ = crc32_z(0, nullptr, 0);
  std::uint64_t total_ = 0;
  bool header_written_ = false;

  std::condition_variable work_ready_;
  std::condition_variable piece_done_;
  std::mutex mutex_;  // guards queue_, stopping_ and every Piece::done
  std::deque<std::shared_ptr<Piece>> queue_;
  bool stopping_ = false;
  std::vector<std::thread> workers_;
};

class ZstdEncoder final : public Encoder {
 public:
  ZstdEncoder(int level, unsigned threads, std::optional<std::uint64_t> size, ByteSink sink)
      : context_(ZSTD_createCCtx()), output_(ZSTD_CStreamOutSize(), '\0'), sink_(std::move(sink)) {
    if (!context_) throw std::bad_alloc();
    set(ZSTD_c_compressionLevel, level);
    set(ZSTD_c_checksumFlag, 1);
    // At least one worker: the output is the same for every number of workers, but not the same as without
    // any.
    set(ZSTD_c_nbWorkers, static_cast<int>(threads));
    if (size) LAYERFS_CHECK(ZSTD_isError(ZSTD_CCtx_setPledgedSrcSize(context_.get(), *size)) == 0);
  }

  Result<void> write(std::string_view bytes) override { return run(bytes, ZSTD_e_continue); }
  Result<void> finish() override { return run({}, ZSTD_e_end); }

 private:
  void set(ZSTD_cParameter parameter, int value) {
    LAYERFS_CHECK(ZSTD_isError(ZSTD_CCtx_setParameter(context_.get(), parameter, value)) == 0);
  }

  Result<void> run(std::string_view bytes, ZSTD_EndDirective directive) {
    ZSTD_inBuffer input{bytes.data(), bytes.size(), 0};
    for (;;) {
      ZSTD_outBuffer output{output_.data(), output_.size(), 0};
      std::size_t left = ZSTD_compressStream2(context_.get(), &output, &input, directive);
      if (ZSTD_isError(left) != 0)
        return std::unexpected(
            Error{ErrorKind::kInvalid, EINVAL, "compress with zstd", ZSTD_getErrorName(left)});
      if (output.pos != 0) LAYERFS_TRY(sink_(std::string_view(output_.data(), output.pos)));
      if (directive == ZSTD_e_end ? left == 0 : input.pos == input.size) return {};
    }
  }

  struct Free {
    void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
  };
  std::unique_ptr<ZSTD_CCtx, Free> context_;
  std::string output_;
  ByteSink sink_;
};

}  // namespace

Result<std::unique_ptr<Encoder>> make_encoder(const EncoderOptions& options, ByteSink sink) {
  auto check_level = [&](int most) -> Result<void> {
    if (options.level >= 0 && options.level <= most) return {};
    return invalid_error("compression level", std::to_string(options.level),
                         fmt::format("not from 1 to {}", most));
  };
  switch (options.compression) {
    case Compression::kNone: return std::make_unique<PlainEncoder>(std::move(sink));
    case Compression::kGzip:
      LAYERFS_TRY(check_level(9));
      return std::make_unique<GzipEncoder>(options.level == 0 ? kGzipDefaultLevel : options.level,
                                           thread_count(options.threads), std::move(sink));
    case Compression::kZstd:
      LAYERFS_TRY(check_level(ZSTD_maxCLevel()));
      return std::make_unique<ZstdEncoder>(options.level == 0 ? kZstdDefaultLevel : options.level,
                                           thread_count(options.threads), options.size, std::move(sink));
  }
  check_failed(__FILE__, __LINE__, "a compression");
}

Result<Compression> parse_compression(std::string_view name) {
  if (name == "gzip") return Compression::kGzip;
  if (name == "zstd") return Compression::kZstd;
  if (name == "none") return Compression::kNone;
  return invalid_error("compression format", name, "not gzip, zstd or none");
}

std::string_view compression_name(Compression compression) {
  switch (compression) {
    case Compression::kNone: return "none";
    case Compression::kGzip: return "gzip";
    case Compression::kZstd: return "zstd";
  }
  return "none";
}

}  // namespace layerfs::image
