// SPDX-License-Identifier: Apache-2.0
// layers/<diffID>/sent: what went to registries of a layer (FORMAT.md, "Layers").
#include <fcntl.h>
#include <fmt/format.h>

#include <charconv>

#include "fs/base/bytes.h"
#include "fs/base/scope_exit.h"
#include "fs/base/sys_file.h"
#include "fs/store/disk_store.h"

namespace layerfs::store {

namespace {

constexpr std::string_view kHead = "layerfs sent 1";
constexpr std::size_t kMaxSent = std::size_t{64} << 10;

std::optional<SentBlob> parse_line(std::string_view line) {
  std::vector<std::string_view> words;
  for (std::size_t at = 0; at <= line.size();) {
    std::size_t blank = std::min(line.find(' ', at), line.size());
    words.push_back(line.substr(at, blank - at));
    at = blank + 1;
  }
  if (words.size() != 4) return std::nullopt;
  SentBlob blob{std::string(words[0]), {}, 0, std::string(words[3])};
  auto digest = parse_digest(words[1]);
  auto [end, code] = std::from_chars(words[2].data(), words[2].data() + words[2].size(), blob.size);
  if (!digest || code != std::errc{} || end != words[2].data() + words[2].size()) return std::nullopt;
  blob.digest = *digest;
  return blob;
}

}  // namespace

Result<std::vector<SentBlob>> DiskStore::sent_blobs(const Digest& diff_id) {
  std::vector<SentBlob> blobs;
  auto text = layout_.own().read(join_path(layout_.layer(diff_id), "sent"), kMaxSent);
  if (!text) {
    if (text.error().code == ENOENT) return blobs;
    return std::unexpected(text.error());
  }
  bool is_head = true;
  for (std::size_t at = 0; at < text->size();) {
    std::size_t end = std::min(text->find('\n', at), text->size());
    std::string_view line = std::string_view(*text).substr(at, end - at);
    at = end + 1;
    if (is_head && line != kHead) return blobs;
    if (auto blob = is_head ? std::nullopt : parse_line(line)) blobs.push_back(std::move(*blob));
    is_head = false;
  }
  return blobs;
}

Result<void> DiskStore::remember_sent_blob(const Digest& diff_id, const SentBlob& blob) {
  LAYERFS_ASSIGN(Fd lease, begin_change());
  std::lock_guard lock(sent_mutex_);
  LAYERFS_ASSIGN(auto blobs, sent_blobs(diff_id));
  std::erase_if(
      blobs, [&](const SentBlob& old) { return old.form == blob.form && old.repository == blob.repository; });
  blobs.push_back(blob);
  if (blobs.size() > kMaxSentBlobs) blobs.erase(blobs.begin());
  std::string text = fmt::format("{}\n", kHead);
  for (const auto& one : blobs)
    text += fmt::format("{} {} {} {}\n", one.form, one.digest.str(), one.size, one.repository);
  std::string temporary = layout_.make_temporary_name("sent");
  ScopeExit remove_temporary([&] { layout_.drop_temporary(temporary); });
  {
    LAYERFS_ASSIGN(Fd fd, layout_.own().open(temporary, O_WRONLY | O_CREAT | O_EXCL, 0600));
    if (auto written = write_full(fd.get(), as_bytes(text)); !written)
      return with_context(written.error(), "remember blob", blob.digest.str());
  }
  LAYERFS_TRY(layout_.own().rename(temporary, join_path(layout_.layer(diff_id), "sent")));
  remove_temporary.release();
  return {};
}

}  // namespace layerfs::store
