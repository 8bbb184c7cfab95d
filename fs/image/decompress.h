// SPDX-License-Identifier: Apache-2.0
// Decompression as a ByteSource: gzip by ISA-L, zstd by libzstd. One thread at a time.
//
// (1) The format is told by the first bytes, not by the media type: blobs are verified by digest anyway, and
//     archives carry compressed layers under plain names.
// (2) A gzip stream may have many members and end in zero padding (gzip(1)); a zstd stream many frames, and
//     skippable ones anywhere. Anything else after the end is kCorrupt, and so is an end in the middle.
// (3) Memory: a few hundred KiB, for zstd its window on top, at most DecompressLimits::window of it.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "fs/image/byte_source.h"

namespace layerfs::image {

enum class Codec : std::uint8_t { kPlain, kGzip, kZstd };

/// Bytes that detect_codec() wants to see.
inline constexpr std::size_t kMagicSize = 4;
/// The codec of a stream that begins so. Errors: kUnsupported naming bzip2, xz and lz4.
Result<Codec> detect_codec(std::string_view head);

struct DecompressLimits {
  /// Largest window of a zstd frame; libzstd counts in powers of two, and takes 2 GiB (`zstd --long=31`) at
  /// most. By default what Podman takes.
  std::uint64_t window = std::uint64_t{512} << 20;
};

/// Reads `source` and gives its plain bytes. kPlain passes them on. `source` must outlive the result.
/// Errors of make and read: kCorrupt; kInvalid for a window above the limit; those of `source`.
Result<std::unique_ptr<ByteSource>> make_decompressor(ByteSource& source, Codec codec,
                                                      const DecompressLimits& limits = {});

/// Reads the first bytes of `source`, then gives them again.
class PeekSource final : public ByteSource {
 public:
  explicit PeekSource(ByteSource& source) : source_(source) {}
  /// Up to kMagicSize bytes (fewer where the source is shorter). Call before the first read().
  Result<std::string_view> peek();
  Result<std::size_t> read(std::span<std::byte> buffer) override;

 private:
  ByteSource& source_;
  char head_[kMagicSize] = {};
  std::size_t head_size_ = 0;
  std::size_t given_ = 0;
};

}  // namespace layerfs::image
