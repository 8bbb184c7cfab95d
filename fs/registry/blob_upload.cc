// SPDX-License-Identifier: Apache-2.0
#include "fs/registry/blob_upload.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "fs/base/log.h"
#include "fs/base/sha256.h"

namespace layerfs::registry {

namespace {

constexpr const char* kBytesType = "Content-Type: application/octet-stream";

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

bool is_success(int status) { return status >= 200 && status <= 299; }

}  // namespace

std::optional<std::uint64_t> parse_upload_range(std::string_view text) {
  for (std::string_view unit : {"bytes=", "bytes "})
    if (text.starts_with(unit)) text.remove_prefix(unit.size());
  if (!text.starts_with("0-")) return std::nullopt;
  std::uint64_t last = 0;
  auto [end, code] = std::from_chars(text.data() + 2, text.data() + text.size(), last);
  if (code != std::errc{} || end != text.data() + text.size() || last == UINT64_MAX) return std::nullopt;
  return last == 0 ? 0 : last + 1;
}

class BlobUpload {
 public:
  BlobUpload(Repository& repository, const UploadOptions& options)
      : repository_(repository), options_(options) {}

  Result<UploadedBlob> run() {
    for (;;) {
      LAYERFS_ASSIGN(auto done, send_from_start());
      if (done) return *done;
    }
  }

 private:
  /// What a failed request leaves to do.
  enum class Next : std::uint8_t { kGoOn, kBeginAnew };

  /// nullopt: it has to begin anew.
  Result<std::optional<UploadedBlob>> send_from_start() {
    bytes_.reset();
    LAYERFS_ASSIGN(bytes_, options_.open());
    hash_ = {};
    begin_ = size_ = 0;
    at_end_ = false;
    LAYERFS_TRY(gather(options_.chunk_size));
    if (at_end_) {
      UploadedBlob blob{hash_.finish(), size_, true};
      LAYERFS_TRY(check_digest(blob.digest));
      LAYERFS_ASSIGN(bool there, repository_.has_blob(blob.digest, blob.size, options_.stop));
      if (there) return blob;
      LAYERFS_TRY(begin_upload());
      blob.was_there = false;
      return finish(blob, chunk());
    }
    LAYERFS_TRY(begin_upload());
    for (;;) {
      LAYERFS_TRY(gather(std::max<std::size_t>(options_.chunk_size, least_)));
      LAYERFS_ASSIGN(Next next, send_chunk());
      if (next == Next::kBeginAnew) return std::nullopt;
      if (at_end_) break;
      begin_ += size_;
      size_ = 0;
    }
    UploadedBlob blob{hash_.finish(), begin_ + size_, false};
    LAYERFS_TRY(check_digest(blob.digest));
    return finish(blob, {});
  }

  Result<void> check_digest(const Digest& digest) const {
    if (!options_.expected || digest == *options_.expected) return {};
    return invalid_error("make blob", options_.expected->str(),
                         fmt::format("its bytes cannot be made again; they would be {}", digest.str()));
  }

  std::span<const std::byte> chunk() const { return std::span(buffer_).first(size_); }

  /// Fills the chunk up to `size`, or to the end of the blob.
  Result<void> gather(std::size_t size) {
    while (size_ < size && !at_end_) {
      LAYERFS_TRY(repository_.pause({}, options_.stop));
      // Most blobs are small.
      if (size_ == buffer_.size()) buffer_.resize(std::min(size, std::max(2 * size_, kBufferSize)));
      auto room = std::span(buffer_).first(std::min(size, buffer_.size())).subspan(size_);
      LAYERFS_ASSIGN(std::size_t got, bytes_->read(room));
      hash_.update(room.first(got));
      size_ += got;
      at_end_ = got == 0;
    }
    return {};
  }

  /// Beginning is repeated as a reading is: an upload that nobody goes on with runs out.
  Result<void> begin_upload() {
    std::string path = repository_.endpoint_.reference.path + "/blobs/uploads/";
    LAYERFS_ASSIGN(
        HttpStream stream,
        repository_.ask(
            {.method = "POST", .path = path, .headers = {kBytesType}, .body = "", .stop = options_.stop}));
    if (!is_success(stream.head().status)) return std::unexpected(refusal(stream));
    LAYERFS_ASSIGN(location_, repository_.location_of(stream));
    least_ = 0;
    if (const std::string* text = stream.head().find("oci-chunk-min-length")) {
      std::uint64_t least = 0;
      std::from_chars(text->data(), text->data() + text->size(), least);
      if (least > kMaxChunkSize && !at_end_)
        return unsupported_error(
            "upload to", repository_.shown(),
            fmt::format("the registry wants chunks of {} bytes; {} are the most here", least, kMaxChunkSize));
      least_ = static_cast<std::size_t>(least);
    }
    return {};
  }

  Result<Next> send_chunk() {
    for (std::uint64_t there = begin_; there < begin_ + size_;) {
      auto rest = chunk().subspan(static_cast<std::size_t>(there - begin_));
      auto stream = repository_.ask(
          {.method = "PATCH",
           .path = location_,
           .headers = {kBytesType, fmt::format("Content-Range: {}-{}", there, there + rest.size() - 1)},
           .body = text_of(rest),
           .is_repeated = false,
           .stop = options_.stop});
      if (stream && is_success(stream->head().status)) {
        LAYERFS_TRY(move_on(*stream));
        const std::string* range = stream->head().find("range");
        auto taken = range == nullptr ? std::nullopt : parse_upload_range(*range);
        // A registry that says nothing, or what cannot be, has taken all: its digest is verified in the end.
        bool is_part = taken && *taken > there && *taken < there + rest.size();
        there = is_part ? *taken : there + rest.size();
        note_progress(there);
        continue;
      }
      LAYERFS_TRY(meet(stream, {404, 416}));
      LAYERFS_ASSIGN(auto taken, ask_status());
      if (!taken || *taken < begin_ || *taken > begin_ + size_) return Next::kBeginAnew;
      there = *taken;
      note_progress(there);
    }
    return Next::kGoOn;
  }

  /// `rest`: the bytes that were not sent yet.
  Result<std::optional<UploadedBlob>> finish(const UploadedBlob& blob, std::span<const std::byte> rest) {
    for (;;) {
      std::string url = location_ + (location_.find('?') == std::string::npos ? "?digest=" : "&digest=") +
                        url_encode(blob.digest.str());
      auto stream = repository_.ask({.method = "PUT",
                                     .path = url,
                                     .headers = {kBytesType},
                                     .body = text_of(rest),
                                     .is_repeated = false,
                                     .is_work = true,
                                     .stop = options_.stop});
      if (stream && is_success(stream->head().status)) {
        const std::string* said = stream->head().find("docker-content-digest");
        if (said != nullptr && *said != blob.digest.str())
          return corrupt_error(
              "upload to", repository_.shown(),
              fmt::format("the registry calls blob '{}' '{}'", blob.digest.str(), printable(*said, 100)));
        return blob;
      }
      LAYERFS_TRY(meet(stream, {404}));
      // The request may have done its work before its answer was lost.
      LAYERFS_ASSIGN(bool there, repository_.has_blob(blob.digest, blob.size, options_.stop));
      if (there) return blob;
      if (!rest.empty()) return std::nullopt;
      LAYERFS_ASSIGN(auto taken, ask_status());
      if (taken != blob.size) return std::nullopt;
    }
  }

  /// The bytes that the registry says are there; nullopt: it does not know the upload.
  Result<std::optional<std::uint64_t>> ask_status() {
    LAYERFS_ASSIGN(HttpStream stream, repository_.ask({.path = location_, .stop = options_.stop}));
    if (!is_success(stream.head().status)) return std::nullopt;
    LAYERFS_TRY(move_on(stream));
    const std::string* range = stream.head().find("range");
    return range == nullptr ? std::nullopt : parse_upload_range(*range);
  }

  /// The last Location counts; an answer without one changes nothing.
  Result<void> move_on(const HttpStream& stream) {
    if (stream.head().find("location") == nullptr) return {};
    LAYERFS_ASSIGN(location_, repository_.location_of(stream));
    return {};
  }

  void note_progress(std::uint64_t there) {
    if (there <= best_) return;
    best_ = there;
    failures_ = 0;
  }

  /// A request that failed: waits, where another may do better. `mended`: statuses, besides those of a busy registry,
  /// that are no last word. Errors: where they are that, or the tries are over.
  Result<void> meet(Result<HttpStream>& stream, std::initializer_list<int> mended) {
    int status = stream ? stream->head().status : 0;
    bool is_mended = stream ? is_retried(status) || std::ranges::find(mended, status) != mended.end()
                            : is_transient(stream.error());
    ++failures_;
    if (!is_mended || failures_ >= repository_.registries_.options_.retry.tries) {
      if (stream) return std::unexpected(refusal(*stream));
      return with_context(stream.error(), "upload to", repository_.shown());
    }
    std::string why = stream ? fmt::format("HTTP status {}", status) : stream.error().message();
    // Where bytes have come since the last failure the registry is well: no reason to wait.
    bool is_well = failures_ == 1 && !(stream && is_retried(status));
    auto delay = is_well ? std::chrono::milliseconds{}
                         : repository_.delay_before(failures_, stream ? &stream->head() : nullptr);
    log_line(LogLevel::kInfo,
             fmt::format("upload to {}: {}; again in {} ms", repository_.shown(), why, delay.count()));
    stream = errno_error(ECONNRESET);  // its lane is free for the next try
    return repository_.pause(delay, options_.stop);
  }

  Error refusal(HttpStream& stream) {
    return repository_.answer_error(stream, "upload to", repository_.shown());
  }

  Repository& repository_;
  const UploadOptions& options_;
  std::unique_ptr<BlobBytes> bytes_;
  Sha256 hash_;
  std::vector<std::byte> buffer_;
  std::uint64_t begin_ = 0;  ///< of the chunk, in the blob
  std::size_t size_ = 0;     ///< of the chunk
  bool at_end_ = false;      ///< the chunk is the last
  std::string location_;
  std::size_t least_ = 0;   ///< what the registry wants of a chunk
  std::uint64_t best_ = 0;  ///< most bytes that the registry has ever had: more of them begin the tries anew
  int failures_ = 0;
};

Result<UploadedBlob> upload_blob(Repository& repository, const UploadOptions& options) {
  return BlobUpload(repository, options).run();
}

}  // namespace layerfs::registry
