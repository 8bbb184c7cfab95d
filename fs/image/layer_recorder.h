// SPDX-License-Identifier: Apache-2.0
// LayerRecorder: one layer's tar becomes records, objects and framing. The one place that says what a tar
// entry means in a layer (IMAGE.md, "Entries").
//
// (1) Contents of ordinary regular files are object references of the framing, everything else is raw: the
//     framing gives the tar again, bit by bit.
// (2) Nothing is published here; the writers belong to the caller.
// (3) One thread.
#pragma once

#include <cstdint>

#include "fs/base/result.h"
#include "fs/image/importer.h"
#include "fs/image/tar_reader.h"
#include "fs/store/layer_store.h"
#include "fs/store/object_store.h"
#include "fs/tree/layer_record.h"

namespace layerfs::image {

class LayerRecorder {
 public:
  /// All references must outlive the recorder.
  LayerRecorder(ChunkSource& source, store::ObjectWriter& objects, store::LayerWriter& layer,
                const ImportLimits& limits, TarEnd end);

  /// Reads the tar to its end. Errors: kInvalid / kCorrupt / kUnsupported naming the entry; those of the
  /// source and the writers.
  Result<void> run();

  /// After run(): all but the diffID.
  const store::LayerInfo& info() const { return info_; }
  /// The latest mtime of the entries.
  tree::Time newest() const { return newest_; }

 private:
  Result<void> record_member();
  Result<void> record_node(std::string path);
  Result<void> record_link(std::string path);
  Result<void> record_mark(tree::RecordKind kind, std::string path);
  Result<void> store_content(tree::Node& node);
  Result<void> store_sparse(tree::Node& node);
  Result<void> count_entry();
  /// Puts the record into the layer; what it makes the store keep is counted.
  Result<void> add_record(const tree::LayerRecord& record);
  std::unexpected<Error> in_member(Error error) const;

  store::ObjectWriter& objects_;
  store::LayerWriter& layer_;
  const ImportLimits& limits_;
  TarReader reader_;
  store::LayerInfo info_;
  std::uint64_t metadata_bytes_ = 0;
  std::uint64_t sparse_bytes_ = 0;  ///< of sparse files' data, in blocks
  tree::Time newest_;
};

}  // namespace layerfs::image
