// SPDX-License-Identifier: Apache-2.0
// TarReader: entries off a tar stream, in one pass: v7, ustar, pax, old GNU and star (IMAGE.md, "Tar").
//
//   next() --true--> the entry; then at most one of read_whole / read_pieces / read_sparse / skip_content
//   next() --false-> the end; everything after it went to the raw sink, too
//
// (1) Every byte of the stream is either given by read_whole / read_pieces or goes to the raw sink, in order:
//     raw bytes with the contents put in between are the stream again.
// (2) Whatever the bytes, there is an entry, an end or an error; memory is bounded by the constants of
//     tar_pax.h and tar_sparse.h.
// (3) One thread. Views die with the next call.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/function_ref.h"
#include "fs/base/result.h"
#include "fs/image/chunk_ring.h"
#include "fs/image/tar_format.h"
#include "fs/image/tar_pax.h"
#include "fs/image/tar_sparse.h"
#include "fs/tree/layer_record.h"

namespace layerfs::image {

struct TarMember {
  TarType type = TarType::kRegular;  ///< kRegular, kDirectory, kHardLink, kSymlink, the two devices or kFifo
  std::string name;                  ///< as the archive has it, not yet judged
  std::string link;                  ///< hard links and symlinks
  std::uint16_t mode = 0;            ///< 07777
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t device_major = 0;
  std::uint32_t device_minor = 0;
  std::uint64_t size = 0;  ///< of a regular file, holes included
  tree::Time mtime;
  std::optional<tree::Time> atime;
  std::optional<tree::Time> ctime;
  tree::XattrList xattrs;  ///< sorted by name
  bool is_sparse = false;
  SparseMap extents;  ///< of a sparse file: where its stored bytes lie
};

enum class TarEnd : std::uint8_t {
  kMarked,   ///< an archive that stops without a zero block is truncated
  kAnywhere  ///< its length is verified otherwise (a layer's diffID)
};

class TarReader {
 public:
  using RawSink = std::function<Result<void>(std::string_view)>;

  /// `source` must outlive the reader. `raw` may be empty: then what is passed over is not read where the
  /// source can skip.
  TarReader(ChunkSource& source, RawSink raw, TarEnd end);

  /// Passes over what is left of the entry before. Errors: kInvalid / kCorrupt / kUnsupported naming the
  /// entry or the offset of the header; those of the source and the sink.
  Result<bool> next();
  const TarMember& member() const { return member_; }

  /// No tool pads an archive by more; a source that never ends (/dev/zero) would go on for ever.
  static constexpr std::uint64_t kMaxAfterEnd = std::uint64_t{64} << 20;

  /// The content of a regular file that is not sparse, in one piece. Requires: size <= kMaxWhole.
  static constexpr std::uint64_t kMaxWhole = std::uint64_t{1} << 20;
  Result<std::string_view> read_whole();
  /// The content of a regular file that is not sparse, piece by piece.
  Result<void> read_pieces(FunctionRef<Result<void>(std::string_view)> visit);
  /// A sparse file from front to back. The stored bytes go to the raw sink as well.
  Result<void> read_sparse(FunctionRef<Result<void>(std::string_view)> data,
                           FunctionRef<Result<void>(std::uint64_t)> hole);
  /// What is stored of the entry goes to the raw sink.
  Result<void> skip_content();

  /// Offset in the stream of the next byte to be read; after next(): of the entry's stored bytes.
  std::uint64_t position() const { return position_; }
  /// Bytes that the archive stores for the entry and that are not read yet.
  std::uint64_t stored_left() const { return left_; }

 private:
  // The stream as bytes.
  Result<bool> at_end();
  Result<std::string_view> take(std::size_t size);
  Result<std::string_view> take_some(std::uint64_t most);
  Result<std::string_view> take_content_piece();
  Result<void> pass(std::uint64_t size);
  Result<void> give_raw(std::string_view bytes);

  Result<bool> read_end(std::string_view first_block);
  Result<bool> handle_header(const TarHeader& header);
  Result<std::string> read_extension(const TarHeader& header);
  Result<void> fill_entry(const TarHeader& header);
  Result<void> fill_names(const TarHeader& header);
  Result<void> fill_numbers(const TarHeader& header);
  Result<void> fill_times(const TarHeader& header);
  Result<void> fill_type(char type);
  Result<void> fill_sparse(const TarHeader& header);
  Result<void> read_gnu_sparse(const TarHeader& header);
  Result<void> read_pax_sparse();
  std::unexpected<Error> at_header(Error error) const;
  std::unexpected<Error> in_entry(Error error) const;

  ChunkSource& source_;
  RawSink raw_;
  TarEnd end_;
  std::string_view chunk_;  ///< what is left of the source's last chunk
  bool source_done_ = false;
  std::string scratch_;  ///< pieces that straddle chunks
  std::uint64_t position_ = 0;
  std::uint64_t header_at_ = 0;
  std::uint64_t left_ = 0;     ///< stored bytes of the entry not read yet
  std::uint64_t padding_ = 0;  ///< after them
  PaxState pax_;
  std::string long_name_;  ///< GNU L
  std::string long_link_;  ///< GNU K
  TarMember member_;
};

}  // namespace layerfs::image
