// SPDX-License-Identifier: Apache-2.0
// A layer in the store, by diffID: its records (layer_record.h) and its framing: the bytes of the tar that
// are not file contents, so that the tar can be given back bit by bit and keeps its diffID.
//
// (1) Published by rename after both files and their directory are durable: there is no half layer.
// (2) Framing is a sequence of raw bytes and references to objects, in the order of the tar.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "fs/base/digest.h"
#include "fs/base/function_ref.h"
#include "fs/base/result.h"
#include "fs/tree/layer_record.h"

namespace layerfs::store {

struct LayerInfo {
  Digest diff_id;
  std::uint64_t tar_bytes = 0;      ///< length of the uncompressed tar
  std::uint64_t content_bytes = 0;  ///< sum of the regular files' sizes
  std::uint64_t entries = 0;
};

/// One thread. Destroyed without publish(): nothing is left but a temporary directory that gc removes.
class LayerWriter {
 public:
  virtual ~LayerWriter() = default;
  virtual Result<void> add_record(const tree::LayerRecord& record) = 0;
  /// Bytes of the tar that are no object's.
  virtual Result<void> add_raw(std::string_view bytes) = 0;
  /// Here the tar has the bytes of an object.
  virtual Result<void> add_object(const Digest& digest, std::uint64_t size) = 0;
  /// Gives the layer its name. Requires: the contents' ObjectWriter::finish() has returned. Publishing a
  /// layer that is there already succeeds and keeps the old one.
  virtual Result<void> publish(const LayerInfo& info) = 0;
};

class StoredLayer : public tree::LayerRecords {
 public:
  virtual const LayerInfo& info() const = 0;
  /// Raw bytes (`digest` is null) and object references of the tar, in order.
  virtual Result<void> for_each_frame(
      FunctionRef<Result<void>(std::string_view raw, const Digest* digest, std::uint64_t size)> visit)
      const = 0;
};

}  // namespace layerfs::store
