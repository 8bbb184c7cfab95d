// SPDX-License-Identifier: Apache-2.0
// LayerRecord: one entry of a layer as the tar said it, path normalised, content already an object. The
// importer writes them, the store keeps them, the merger reads them.
//
// (1) `path` has no leading or trailing '/', no empty, "." or ".." component; the root is "".
// (2) Records keep the order of the tar; of two of one path the later counts. Whiteouts and opaque marks
//     concern lower layers only, wherever they stand.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "fs/base/function_ref.h"
#include "fs/base/result.h"
#include "fs/tree/node.h"

namespace layerfs::tree {

/// Values are on disk (FORMAT.md).
enum class RecordKind : std::uint8_t {
  kNode = 1,      ///< `node`; symlinks: `target` is the link's text
  kHardLink = 2,  ///< `path` is another name of `target` (a normalised path in this layer or below)
  kWhiteout = 3,  ///< `path` of the lower layers is gone
  kOpaque = 4,    ///< the children of `path` in the lower layers are gone
};

using XattrList = std::vector<std::pair<std::string, std::string>>;

struct LayerRecord {
  RecordKind kind = RecordKind::kNode;
  std::string path;
  std::string target;
  Node node;  ///< parent and nlink are not used
  XattrList xattrs;
};

/// A layer's records, readable as often as wanted from the start.
class LayerRecords {
 public:
  virtual ~LayerRecords() = default;
  /// Calls `visit` for each record in order; an error from it stops and is returned. Errors: kCorrupt, EIO.
  virtual Result<void> for_each(FunctionRef<Result<void>(const LayerRecord&)> visit) const = 0;
};

}  // namespace layerfs::tree
