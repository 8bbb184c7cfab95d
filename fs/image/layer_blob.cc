// SPDX-License-Identifier: Apache-2.0
#include "fs/image/layer_blob.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "fs/image/layer_import.h"
#include "fs/image/layer_stream.h"

namespace layerfs::image {

LayerBlob::LayerBlob(store::Store& store, const Digest& diff_id, EncoderOptions options,
                     std::function<Result<void>(std::uint64_t)> report)
    : store_(store), diff_id_(diff_id), options_(options), report_(std::move(report)) {
  thread_ = std::thread([this] {
    produced_ = run_guarded([this] { return produce(); });
    if (produced_)
      ring_.close();
    else
      ring_.abort();
  });
}

LayerBlob::~LayerBlob() {
  ring_.abort();
  if (thread_.joinable()) thread_.join();
}

Result<void> LayerBlob::produce() {
  LAYERFS_ASSIGN(auto layer, store_.get_layer(diff_id_));
  options_.size = layer->info().tar_bytes;
  LAYERFS_ASSIGN(auto encoder, make_encoder(options_, [this](std::string_view bytes) {
                   return ring_.write(std::as_bytes(std::span(bytes)));
                 }));
  auto take = [&](std::string_view bytes) -> Result<void> {
    if (ring_.aborted()) return errno_error(ECANCELED);
    LAYERFS_TRY(report_(bytes.size()));
    return encoder->write(bytes);
  };
  LAYERFS_TRY(stream_layer(store_, diff_id_, take));
  return encoder->finish();
}

Result<std::size_t> LayerBlob::read(std::span<std::byte> buffer) {
  if (chunk_.empty()) {
    auto next = ring_.next(0);
    if (!next) {
      if (thread_.joinable()) thread_.join();
      if (!produced_) return std::unexpected(produced_.error());
      return std::unexpected(next.error());
    }
    chunk_ = *next;
  }
  std::size_t size = std::min(buffer.size(), chunk_.size());
  std::memcpy(buffer.data(), chunk_.data(), size);
  chunk_ = chunk_.subspan(size);
  return size;
}

}  // namespace layerfs::image
