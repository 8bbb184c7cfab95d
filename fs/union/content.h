// SPDX-License-Identifier: Apache-2.0
// Content: the bytes of regular files, wherever they lie: an object, the upper's data file, both by range, in
// the tree itself, or nowhere (a hole). The caller locks the inode as LOCKS.md says.
//
// (1) Base and extents end within the file: base_size <= size over an object, and no extent reaches beyond
//     size. So what grows by an extension is zeros without a change to either.
// (2) A data file without a base may be longer than the file, after a write whose size was never
//     recorded: who extends such a file first cuts the rest off (cut_tail). It is as long as the file
//     (extend) where Node::data_reaches says so; where an older version made it it may be shorter: the rest
//     is zeros.
// (3) Bytes in a place of a shared file beyond the file's size mean nothing either, with the same remedy.
//     What others have in the file is never touched.
// (4) A data file over a base is read only where an extent says so; what else lies in it means nothing. It is
//     as long as the last extent wants it.
// (5) A data file without a base, or a place, has no hole at or beyond Node::base_size, and takes no
//     blocks beyond the file's end where that is 0: then blocks() need not ask for it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "fs/base/fd.h"
#include "fs/base/result.h"
#include "fs/tree/content_parts.h"
#include "fs/tree/over_tree.h"
#include "fs/tree/upper_layer.h"
#include "fs/union/descriptor_cache.h"
#include "fs/union/union_fs.h"

namespace layerfs::unionfs {

using tree::DataPlace;

class Content {
 public:
  /// `upper` may be null. All must outlive this.
  Content(const tree::OverTree& view, DescriptorCache& descriptors, tree::UpperLayer* upper,
          std::uint64_t whole_copy_limit)
      : view_(view), descriptors_(descriptors), upper_(upper), whole_copy_limit_(whole_copy_limit) {}

  /// Fewer bytes than asked for only at the end of the file.
  Result<std::size_t> read(Ino ino, const Node& node, std::uint64_t offset,
                           std::span<std::byte> buffer) const;
  /// [offset, offset+size) of the file, cut at its end. A piece of a data file may reach beyond that file's
  /// end.
  Result<std::vector<ReadPiece>> pieces(Ino ino, const Node& node, std::uint64_t offset,
                                        std::uint64_t size) const;
  /// What st_blocks says: what the file would have on a file system with blocks of 4 KiB, of which holes have
  /// none. No lock needed.
  std::uint64_t blocks(Ino ino, const Node& node) const;
  /// SEEK_DATA or SEEK_HOLE. Errors: ENXIO.
  Result<std::uint64_t> seek(Ino ino, const Node& node, std::uint64_t offset, int whence) const;

  /// Where to write to, up to byte `reach`: makes `node` one with a data file in memory where it has none, or
  /// one that is too short, with its first `keep` bytes (copied, or as a base where they are more than the
  /// limit). The caller puts the node.
  Result<DataPlace> make_data(Ino ino, Node& node, std::uint64_t keep, std::uint64_t reach) const;
  /// True where make_data() would copy: what is to be written over whole need not be kept then.
  static bool would_copy(const Node& node, std::uint64_t reach);
  /// Takes away what lies beyond `size`: before an extension of the file from there (invariant 2).
  Result<void> cut_tail(const DataPlace& data, std::uint64_t size) const;
  /// Makes a data file at least `size` long, by a hole (invariants 2 and 4); a shared one always is. Errors:
  /// EFBIG: the file system below has no files of that size.
  static Result<void> extend(const DataPlace& data, std::uint64_t size);
  /// Gives back what lies beyond the size in the node's data file.
  Result<void> cut_data(Ino ino, const Node& node) const;

 private:
  Result<ReadPiece> piece_of(Ino ino, const Node& node, const tree::ContentPart& part) const;
  Result<DataPlace> open(Ino ino, const Node& node) const;
  // st_blocks of the first `size` bytes of the object, of the data file with what shows through it.
  std::uint64_t object_blocks(const Node& node, std::uint64_t size) const;
  std::uint64_t data_blocks(Ino ino, const Node& node) const;
  // True where zeros were left out.
  Result<bool> copy_whole(Ino ino, const Node& node, std::uint64_t size, const DataPlace& data) const;

  const tree::OverTree& view_;
  DescriptorCache& descriptors_;
  tree::UpperLayer* upper_;
  std::uint64_t whole_copy_limit_;
};

/// Says in `node` that its data file may have holes before `end`, or blocks beyond its own end (invariant 5).
inline void note_holes(Node& node, std::uint64_t end) {
  if (has_data_file(node.content) && node.object.is_zero()) node.base_size = std::max(node.base_size, end);
}

}  // namespace layerfs::unionfs
