// SPDX-License-Identifier: Apache-2.0
// Compression of layer blobs: gzip and zstd encoders whose output depends on the input and the level only,
// never on the number of threads or on how the input was cut into writes. An encoder is used by one thread at
// a time.
//
// (1) gzip: the input is cut into pieces of kGzipPiece bytes, each deflated on its own thread with the 32 KiB
//     before it as its dictionary; together they are one ordinary gzip member without name and time. By zlib,
//     not by the several times faster igzip: its output depends on the processor's vector extensions.
// (2) zstd: one frame with content checksum, and with the content's size where it is known.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "fs/base/result.h"

namespace layerfs::image {

/// Takes bytes in order. An error stops the writer and is returned by it.
using ByteSink = std::function<Result<void>(std::string_view)>;

enum class Compression : unsigned char { kNone, kGzip, kZstd };

inline constexpr std::size_t kGzipPiece = 512 * 1024;

class Encoder {
 public:
  virtual ~Encoder() = default;
  virtual Result<void> write(std::string_view bytes) = 0;
  /// Writes what is left; nothing may be written after it. Without it the output is cut short.
  virtual Result<void> finish() = 0;
};

struct EncoderOptions {
  Compression compression = Compression::kGzip;
  int level = 0;                      ///< 0: the format's default
  std::optional<std::uint64_t> size;  ///< of the whole input, where known
  unsigned threads = 0;               ///< 0: one for each CPU, 16 at most
};

/// Errors: kInvalid where the level is not one of the format's (gzip 1 to 9, zstd 1 to 22).
Result<std::unique_ptr<Encoder>> make_encoder(const EncoderOptions& options, ByteSink sink);

/// "gzip", "zstd" or "none". Errors: kInvalid.
Result<Compression> parse_compression(std::string_view name);
std::string_view compression_name(Compression compression);

}  // namespace layerfs::image
