// SPDX-License-Identifier: Apache-2.0
#include "fs/image/oci_layout_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <vector>

#include "fs/base/fd.h"
#include "fs/base/log.h"
#include "fs/base/sha256.h"
#include "fs/base/sys_file.h"

namespace layerfs::image {

using OrderedJson = nlohmann::ordered_json;

std::string blob_path(const Digest& digest) { return "blobs/sha256/" + digest.hex(); }

Result<Digest> ImageOutput::put_blob(std::string_view bytes) {
  Digest digest = sha256(bytes);
  LAYERFS_TRY(begin_blob());
  LAYERFS_TRY(write(bytes));
  LAYERFS_TRY(end_blob(digest));
  return digest;
}

namespace {

class LayoutDirectory final : public OciLayoutWriter {
 public:
  LayoutDirectory(std::string target, std::string work, Fd lock, OrderedJson index)
      : target_(std::move(target)),
        work_(std::move(work)),
        lock_(std::move(lock)),
        index_(std::move(index)) {}

  ~LayoutDirectory() override {
    if (finished_) return;
    if (is_new()) {
      if (auto removed = remove_tree(work_); !removed) log_warning("{}", removed.error().message());
      return;
    }
    if (blob_) added_.push_back(blob_temp());
    for (const auto& name : added_)
      if (auto removed = unlink_at(AT_FDCWD, join_path(work_, name), 0); !removed)
        log_warning("{}", removed.error().message());
  }
  LayoutDirectory(const LayoutDirectory&) = delete;
  LayoutDirectory& operator=(const LayoutDirectory&) = delete;

  Result<void> begin_blob() override {
    LAYERFS_ASSIGN(blob_,
                   open_file(join_path(work_, blob_temp()), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0644));
    return {};
  }
  Result<void> write(std::string_view bytes) override {
    if (auto written = write_full(blob_.get(), std::as_bytes(std::span(bytes))); !written)
      return with_context(std::move(written).error(), "write", target_);
    return {};
  }
  Result<void> end_blob(const Digest& digest) override {
    std::string name = blob_path(digest);
    LAYERFS_TRY(sync_data(blob_.get()));
    LAYERFS_ASSIGN(auto there, find_stat_at(AT_FDCWD, join_path(work_, name), AT_SYMLINK_NOFOLLOW));
    LAYERFS_TRY(rename_file(join_path(work_, blob_temp()), join_path(work_, name)));
    blob_.reset();
    if (!there) added_.push_back(std::move(name));
    return {};
  }

  Result<void> put_document(const std::string& name, std::string_view bytes) override {
    return write_file_atomic(join_path(work_, name), bytes, 0644);
  }

  Result<void> put_index_entry(const Descriptor& manifest, const std::string& tag) override {
    OrderedJson kept = OrderedJson::array();
    for (const auto& entry : index_["manifests"]) {
      auto annotations = entry.find("annotations");
      bool same = annotations != entry.end() && annotations->is_object() &&
                  annotations->value(std::string(kRefNameAnnotation), OrderedJson()) == OrderedJson(tag);
      if (!same) kept.push_back(entry);
    }
    OrderedJson entry = {
        {"mediaType", manifest.media_type}, {"digest", manifest.digest.str()}, {"size", manifest.size}};
    if (manifest.platform) {
      entry["platform"] = {{"architecture", manifest.platform->architecture}, {"os", manifest.platform->os}};
      if (!manifest.platform->variant.empty()) entry["platform"]["variant"] = manifest.platform->variant;
    }
    entry["annotations"] = OrderedJson::object();
    for (const auto& [key, value] : manifest.annotations) entry["annotations"][key] = value;
    entry["annotations"][std::string(kRefNameAnnotation)] = tag;
    kept.push_back(std::move(entry));
    index_["manifests"] = std::move(kept);
    return {};
  }

  Result<void> finish() override {
    for (const char* name : {"blobs/sha256", "blobs"}) LAYERFS_TRY(sync_dir(join_path(work_, name)));
    // The tag may be any bytes.
    std::string index = index_.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
    LAYERFS_TRY(write_file_atomic(join_path(work_, "index.json"), index, 0644));
    if (is_new()) {
      // rename(2) puts a directory over an empty one, which open() allowed.
      LAYERFS_TRY(rename_file(work_, target_));
    }
    finished_ = true;
    return {};
  }

 private:
  bool is_new() const { return work_ != target_; }
  /// Blobs are renamed inside the layout, so that they are on its file system.
  std::string blob_temp() const { return "blobs/.layerfs-" + std::to_string(::getpid()); }

  std::string target_;
  std::string work_;  // target_ itself, or the new directory beside it
  Fd lock_;
  OrderedJson index_;
  Fd blob_;
  std::vector<std::string> added_;
  bool finished_ = false;
};

Result<OrderedJson> read_index(const std::string& directory) {
  LAYERFS_ASSIGN(std::string text, read_file(join_path(directory, "index.json"), kMaxDocument));
  OrderedJson index = OrderedJson::parse(text, nullptr, false);
  if (!index.is_object() || !index.contains("manifests") || !index["manifests"].is_array())
    return invalid_error("read index.json of", directory, "not an OCI image index");
  return index;
}

Result<std::unique_ptr<OciLayoutWriter>> open_existing(const std::string& directory) {
  LAYERFS_ASSIGN(Fd lock, open_file(join_path(directory, "oci-layout"), O_RDONLY | O_NOFOLLOW));
  LAYERFS_TRY(lock_file(lock.get(), LockMode::kExclusive, LockWait::kYes));
  LAYERFS_ASSIGN(OrderedJson index, read_index(directory));
  LAYERFS_TRY(make_dirs(join_path(directory, "blobs/sha256"), 0755));
  return std::make_unique<LayoutDirectory>(directory, directory, std::move(lock), std::move(index));
}

Result<std::unique_ptr<OciLayoutWriter>> open_new(const std::string& directory) {
  std::string work = directory + ".layerfs-" + std::to_string(::getpid());
  LAYERFS_TRY(remove_tree(work));
  OrderedJson index = {
      {"schemaVersion", 2}, {"mediaType", media::kOciIndex}, {"manifests", OrderedJson::array()}};
  auto writer = std::make_unique<LayoutDirectory>(directory, work, Fd(), std::move(index));
  LAYERFS_TRY(make_dirs(join_path(work, "blobs/sha256"), 0755));
  LAYERFS_TRY(writer->put_document("oci-layout", kLayoutMark));
  return writer;
}

}  // namespace

Result<std::unique_ptr<OciLayoutWriter>> OciLayoutWriter::open(const std::string& directory) {
  std::string path = directory;
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  LAYERFS_ASSIGN(auto there, find_stat_at(AT_FDCWD, path, 0));
  if (!there) return open_new(path);
  if (!S_ISDIR(there->st_mode)) return system_error(ENOTDIR, "open layout", path);
  LAYERFS_ASSIGN(auto mark, find_stat_at(AT_FDCWD, join_path(path, "oci-layout"), AT_SYMLINK_NOFOLLOW));
  if (mark) return open_existing(path);
  LAYERFS_ASSIGN(auto names, list_dir(path));
  if (!names.empty())
    return invalid_error("open layout", path, "a directory that is neither empty nor an OCI layout");
  return open_new(path);
}

}  // namespace layerfs::image
