// SPDX-License-Identifier: Apache-2.0
// The bytes of one regular file, of a tree or of an upper over it, for writing into an archive. One thread.
//
// (1) Which parts of a file are written as holes depends on its bytes only, not on how the file system stores
//     it: a file of at least kSparseLimit bytes of which at least half lies in runs of kHoleBytes zeros or
//     more, aligned to kHoleUnit, is sparse; every other file is written whole. So the same content gives the
//     same archive.
// (2) An object is verified when it becomes part of a content (BlobSource::verify).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fs/base/fd.h"
#include "fs/base/result.h"
#include "fs/image/tar_writer.h"
#include "fs/tree/blob_source.h"
#include "fs/tree/over_tree.h"

namespace layerfs::image {

inline constexpr std::uint64_t kSparseLimit = std::uint64_t{1} << 20;
inline constexpr std::uint64_t kHoleUnit = 4096;
inline constexpr std::uint64_t kHoleBytes = std::uint64_t{64} << 10;

/// Where `size` bytes come from, one piece after another.
struct ContentPiece {
  std::shared_ptr<const Fd> file = {};  ///< null: `text`; zeros where that is empty
  std::uint64_t offset = 0;             ///< in `file`
  std::uint64_t size = 0;
  bool may_end = false;  ///< zeros where `file` ends early (a data file), instead of an error (an object)
  std::string text = {};
};

class FileContent {
 public:
  /// A regular file of a tree, or of an upper over it. Errors: kCorrupt, also where an object is not what its
  /// digest says; ENOENT where the store lacks one; EIO...
  static Result<FileContent> of_node(tree::Ino ino, const tree::Node& node, const tree::OverTree& tree,
                                     const tree::BlobSource& blobs);
  /// A file of the host. Requires: `size` is what it has now; should it shrink, write() says so.
  static FileContent of_file(std::shared_ptr<const Fd> file, std::uint64_t size);

  std::uint64_t size() const { return size_; }
  /// Where the data is (invariant 1); empty for a file that is written whole. Reads the file.
  Result<std::vector<DataRun>> find_runs() const;
  /// Writes the runs, or everything where there are none. Errors: kCorrupt where an object is cut short.
  Result<void> write(const std::vector<DataRun>& runs, const ByteSink& sink) const;

 private:
  FileContent() = default;
  Result<void> add_blob(const Digest& digest, std::uint64_t offset, std::uint64_t size,
                        const tree::BlobSource& blobs);
  void append(ContentPiece piece);
  Result<void> read_at(std::uint64_t offset, std::span<std::byte> buffer) const;
  Result<std::uint64_t> next_data(std::uint64_t offset) const;

  std::vector<ContentPiece> pieces_;
  std::vector<std::uint64_t> starts_;  // of the pieces in the file
  std::uint64_t size_ = 0;
  tree::Blob object_;  // the one that was looked at last, opened once for all pieces of it
  Digest verified_;    // its digest
};

}  // namespace layerfs::image
