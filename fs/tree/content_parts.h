// SPDX-License-Identifier: Apache-2.0
// Where the bytes of a regular file lie, whatever level has them.
#pragma once

#include <cstdint>

#include "fs/base/function_ref.h"
#include "fs/base/result.h"
#include "fs/tree/node.h"
#include "fs/tree/upper_view.h"

namespace layerfs::tree {

enum class ContentSource : std::uint8_t {
  kHole,    ///< nowhere: zeros
  kInline,  ///< the inode's inline bytes
  kObject,  ///< the node's object
  kData,    ///< the upper's data file of the inode, or its place in a shared one; zeros where that ends early
};

/// `size` bytes at `offset` of a source. In a hole the offset means nothing.
struct ContentPart {
  ContentSource source;
  std::uint64_t offset;
  std::uint64_t size;
};

/// Calls `visit` for the parts that make up [begin, end) of a file, in order, none of them empty. An error
/// from it stops and is returned. `upper` is what has the node, or null. Requires: begin <= end <= node.size.
/// Errors: kCorrupt: a node of a tree with a data file.
Result<void> visit_content(const UpperView* upper, Ino ino, const Node& node, std::uint64_t begin,
                           std::uint64_t end, FunctionRef<Result<void>(const ContentPart&)> visit);

/// What ContentSource::kData lies in. Requires: has_data_file(node.content). Errors: ENOENT, EMFILE, EIO.
Result<DataPlace> open_content(const UpperView& upper, Ino ino, const Node& node);

}  // namespace layerfs::tree
