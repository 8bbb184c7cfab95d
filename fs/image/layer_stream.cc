// SPDX-License-Identifier: Apache-2.0
#include "fs/image/layer_stream.h"

#include <vector>

#include "fs/base/bytes.h"
#include "fs/base/sha256.h"
#include "fs/base/sys_file.h"

namespace layerfs::image {

namespace {

constexpr std::size_t kPiece = std::size_t{1} << 20;

class LayerStream {
 public:
  LayerStream(store::Store& store, const ByteSink& sink) : store_(store), sink_(sink) {}

  Result<void> put(std::string_view bytes) {
    hash_.update(bytes);
    size_ += bytes.size();
    return sink_(bytes);
  }

  Result<void> put_object(const Digest& digest, std::uint64_t size) {
    auto blob = store_.objects().open(digest);
    if (!blob) return with_context(std::move(blob).error(), "object", digest.str());
    if (blob->size != size)
      return corrupt_error("object", digest.str(), "its size is not what the layer says");
    if (buffer_.empty()) buffer_.resize(kPiece);
    for (std::uint64_t done = 0; done < size;) {
      auto piece =
          std::span(buffer_).first(static_cast<std::size_t>(std::min<std::uint64_t>(kPiece, size - done)));
      LAYERFS_ASSIGN(std::size_t got, pread_full(blob->file->get(), piece, blob->offset + done));
      if (got != piece.size()) return corrupt_error("object", digest.str(), "cut short");
      LAYERFS_TRY(put(as_text(piece)));
      done += got;
    }
    return {};
  }

  std::uint64_t size() const { return size_; }
  Digest finish() { return hash_.finish(); }

 private:
  store::Store& store_;
  const ByteSink& sink_;
  Sha256 hash_;
  std::uint64_t size_ = 0;
  std::vector<std::byte> buffer_;
};

}  // namespace

Result<void> stream_layer(store::Store& store, const Digest& diff_id, const ByteSink& sink) {
  LAYERFS_ASSIGN(auto layer, store.get_layer(diff_id));
  LayerStream stream(store, sink);
  auto walked = layer->for_each_frame(
      [&](std::string_view raw, const Digest* digest, std::uint64_t size) -> Result<void> {
        return digest == nullptr ? stream.put(raw) : stream.put_object(*digest, size);
      });
  if (!walked) return with_context(std::move(walked).error(), "layer", diff_id.str());
  if (stream.size() != layer->info().tar_bytes || stream.finish() != diff_id)
    return corrupt_error("layer", diff_id.str(), "the stored bytes do not have this diffID");
  return {};
}

}  // namespace layerfs::image
