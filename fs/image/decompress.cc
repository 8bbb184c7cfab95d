// SPDX-License-Identifier: Apache-2.0
#include "fs/image/decompress.h"

#include <fmt/format.h>
#include <isa-l/igzip_lib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <vector>

#include "fs/base/bytes.h"

namespace layerfs::image {

namespace {

constexpr std::size_t kInputSize = 256 * 1024;

/// What both decompressors share: a window of compressed bytes, refilled when it is empty.
class Input {
 public:
  explicit Input(ByteSource& source) : source_(source), buffer_(kInputSize) {}
  /// Makes rest() non-empty unless the source is at its end.
  Result<void> fill() {
    if (!rest_.empty()) return {};
    LAYERFS_ASSIGN(std::size_t got, source_.read(buffer_));
    rest_ = std::span(buffer_).first(got);
    return {};
  }
  std::span<std::byte> rest() const { return rest_; }
  bool at_end() const { return rest_.empty(); }  // after fill()
  void drop(std::size_t size) { rest_ = rest_.subspan(size); }

 private:
  ByteSource& source_;
  std::vector<std::byte> buffer_;
  std::span<std::byte> rest_;
};

const char* gzip_reason(int code) {
  switch (code) {
    case ISAL_INVALID_BLOCK: return "invalid deflate block";
    case ISAL_INVALID_SYMBOL: return "invalid deflate symbol";
    case ISAL_INVALID_LOOKBACK: return "a match from before the start";
    case ISAL_INVALID_WRAPPER: return "invalid gzip header";
    case ISAL_UNSUPPORTED_METHOD: return "unknown compression method";
    case ISAL_INCORRECT_CHECKSUM: return "wrong gzip checksum";
    default: return "invalid gzip data";
  }
}

class GzipSource final : public ByteSource {
 public:
  explicit GzipSource(ByteSource& source) : input_(source), state_(std::make_unique<inflate_state>()) {
    begin_member();
  }

  Result<std::size_t> read(std::span<std::byte> buffer) override {
    std::size_t done = 0;
    while (done < buffer.size() && !finished_) {
      LAYERFS_TRY(input_.fill());
      if (in_member_) {
        if (input_.at_end()) return corrupt_error("gzip", {}, "truncated");
        if (in_header_) {
          LAYERFS_TRY(read_header());
          continue;
        }
        LAYERFS_ASSIGN(std::size_t made, inflate(buffer.subspan(done)));
        done += made;
      } else {
        LAYERFS_TRY(between_members());
      }
    }
    return done;
  }

 private:
  void begin_member() {
    isal_inflate_init(state_.get());
    state_->crc_flag = ISAL_GZIP_NO_HDR_VER;  // verifies CRC-32 and length of the trailer
    isal_gzip_header_init(&header_);
    in_header_ = true;
    in_member_ = true;
  }

  /// The header by a call of its own: inflating over it, ISA-L 2.30 forgets the flags of one that comes in
  /// pieces.
  Result<void> read_header() {
    auto in = input_.rest();
    state_->next_in = reinterpret_cast<std::uint8_t*>(in.data());
    state_->avail_in = static_cast<std::uint32_t>(in.size());
    int code = isal_read_gzip_header(state_.get(), &header_);
    if (code != ISAL_DECOMP_OK && code != ISAL_END_INPUT) return corrupt_error("gzip", {}, gzip_reason(code));
    input_.drop(in.size() - state_->avail_in);
    in_header_ = code == ISAL_END_INPUT;
    return {};
  }

  Result<std::size_t> inflate(std::span<std::byte> out) {
    auto in = input_.rest();
    auto room = static_cast<std::uint32_t>(std::min<std::size_t>(out.size(), std::size_t{1} << 30));
    state_->next_in = reinterpret_cast<std::uint8_t*>(in.data());
    state_->avail_in = static_cast<std::uint32_t>(in.size());
    state_->next_out = reinterpret_cast<std::uint8_t*>(out.data());
    state_->avail_out = room;
    int code = isal_inflate(state_.get());
    std::size_t made = room - state_->avail_out;
    std::size_t used = in.size() - state_->avail_in;
    if (code != ISAL_DECOMP_OK && code != ISAL_END_INPUT) return corrupt_error("gzip", {}, gzip_reason(code));
    input_.drop(used);
    if (state_->block_state == ISAL_BLOCK_FINISH) {
      in_member_ = false;
    } else if (made == 0 && used == 0) {
      return corrupt_error("gzip", {}, "invalid gzip data");  // no way forward: never loop on it
    }
    return made;
  }

  /// After a member: another one, zero padding, or the end.
  Result<void> between_members() {
    if (input_.at_end()) {
      finished_ = true;
      return {};
    }
    auto first = static_cast<unsigned char>(input_.rest()[0]);
    if (first == 0) {
      padded_ = true;
      input_.drop(1);
      return {};
    }
    if (first != 0x1f || padded_) return corrupt_error("gzip", {}, "garbage after the end");
    begin_member();
    return {};
  }

  Input input_;
  std::unique_ptr<inflate_state> state_;
  isal_gzip_header header_{};
  bool in_header_ = true;
  bool in_member_ = true;
  bool padded_ = false;
  bool finished_ = false;
};

class ZstdSource final : public ByteSource {
 public:
  ZstdSource(ByteSource& source, const DecompressLimits& limits)
      : input_(source), window_(limits.window), stream_(ZSTD_createDStream()) {
    // The decoder's own limit is 128 MiB; it allocates what a frame says, so no more than it may.
    if (stream_)
      ZSTD_DCtx_setParameter(stream_.get(), ZSTD_d_windowLogMax,
                             std::clamp(static_cast<int>(std::bit_width(window_)) - 1, 10, kMostWindowLog));
  }

  Result<std::size_t> read(std::span<std::byte> buffer) override {
    if (!stream_) return system_error(ENOMEM, "zstd");
    ZSTD_outBuffer out{buffer.data(), buffer.size(), 0};
    while (out.pos < out.size) {
      LAYERFS_TRY(input_.fill());
      if (input_.at_end() && !pending_output_) {
        if (in_frame_) return corrupt_error("zstd", {}, "truncated");
        break;
      }
      ZSTD_inBuffer in{input_.rest().data(), input_.rest().size(), 0};
      std::size_t before = out.pos;
      std::size_t hint = ZSTD_decompressStream(stream_.get(), &out, &in);
      if (ZSTD_getErrorCode(hint) == ZSTD_error_frameParameter_windowTooLarge)
        return invalid_error(
            "zstd", {},
            fmt::format("a window of more than {} bytes (the limit can be raised, to 2 GiB)", window_));
      if (ZSTD_isError(hint) != 0) return corrupt_error("zstd", {}, ZSTD_getErrorName(hint));
      bool moved = in.pos > 0 || out.pos > before;
      input_.drop(in.pos);
      in_frame_ = hint != 0;  // zero: a frame is complete and all of it was given out
      // A full output buffer may leave decoded bytes inside the stream: ask again without input.
      pending_output_ = in_frame_ && out.pos == out.size;
      if (!moved && input_.at_end()) pending_output_ = false;
    }
    return out.pos;
  }

 private:
  struct Free {
    void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
  };
  static constexpr int kMostWindowLog = sizeof(std::size_t) > 4 ? 31 : 30;  // ZSTD_WINDOWLOG_MAX

  Input input_;
  std::uint64_t window_;
  std::unique_ptr<ZSTD_DStream, Free> stream_;
  bool in_frame_ = false;
  bool pending_output_ = false;
};

class PlainSource final : public ByteSource {
 public:
  explicit PlainSource(ByteSource& source) : source_(source) {}
  Result<std::size_t> read(std::span<std::byte> buffer) override { return source_.read(buffer); }

 private:
  ByteSource& source_;
};

}  // namespace

Result<Codec> detect_codec(std::string_view head) {
  using std::string_view_literals::operator""sv;
  if (head.starts_with("\x1f\x8b"sv)) return Codec::kGzip;
  if (head.starts_with("\x28\xb5\x2f\xfd"sv)) return Codec::kZstd;
  if (head.size() >= 4 && (load_le<std::uint32_t>(head.data()) & 0xfffffff0U) == 0x184d2a50U)
    return Codec::kZstd;
  if (head.starts_with("BZh"sv)) return unsupported_error("compression", "bzip2", "use gzip or zstd");
  if (head.starts_with("\xfd"
                       "7zX"sv))
    return unsupported_error("compression", "xz", "use gzip or zstd");
  if (head.starts_with("\x04\x22\x4d\x18"sv))
    return unsupported_error("compression", "lz4", "use gzip or zstd");
  return Codec::kPlain;
}

Result<std::unique_ptr<ByteSource>> make_decompressor(ByteSource& source, Codec codec,
                                                      const DecompressLimits& limits) {
  switch (codec) {
    case Codec::kGzip: return std::make_unique<GzipSource>(source);
    case Codec::kZstd: return std::make_unique<ZstdSource>(source, limits);
    case Codec::kPlain: break;
  }
  return std::make_unique<PlainSource>(source);
}

Result<std::string_view> PeekSource::peek() {
  while (head_size_ < kMagicSize) {
    LAYERFS_ASSIGN(std::size_t got,
                   source_.read(std::as_writable_bytes(std::span(head_)).subspan(head_size_)));
    if (got == 0) break;
    head_size_ += got;
  }
  return std::string_view(head_, head_size_);
}

Result<std::size_t> PeekSource::read(std::span<std::byte> buffer) {
  if (given_ == head_size_) return source_.read(buffer);
  std::size_t size = std::min(buffer.size(), head_size_ - given_);
  std::memcpy(buffer.data(), head_ + given_, size);
  given_ += size;
  return size;
}

}  // namespace layerfs::image
