// SPDX-License-Identifier: Apache-2.0
// What the store's tests share: a private store directory, layers made by hand, expectations on Results.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/bytes.h"
#include "fs/base/sha256.h"
#include "fs/base/sys_file.h"
#include "fs/store/store.h"

namespace layerfs::store {

#define ASSERT_OK(expr)                                                          \
  do {                                                                           \
    auto& layerfs_result = (expr);                                               \
    ASSERT_TRUE(layerfs_result.has_value()) << layerfs_result.error().message(); \
  } while (false)
/// Like ASSERT_TRUE on a temporary Result.
#define ASSERT_DONE(expr)                                                        \
  do {                                                                           \
    auto layerfs_result = (expr);                                                \
    ASSERT_TRUE(layerfs_result.has_value()) << layerfs_result.error().message(); \
  } while (false)

/// The value, or the end of the test with the error's message.
template <class T>
T value_of(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message());
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    // In memory where there is a place: the order of writes is what is tested, not the disk's patience.
    bool in_memory = std::getenv("TMPDIR") == nullptr && ::access("/dev/shm", W_OK) == 0;
    std::filesystem::path parent = in_memory ? "/dev/shm" : std::filesystem::temp_directory_path();
    std::string pattern = (parent / "layerfs-test-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = pattern;
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    if (auto removed = remove_tree(path_); !removed) ADD_FAILURE() << removed.error().message();
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// A test with a store of its own.
class StoreTest : public testing::Test {
 protected:
  StoreTest() : root_(directory_.path() + "/store") { reopen(); }
  void reopen() {
    store_.reset();
    store_ = value_of(Store::open(root_, StoreAccess::kWrite));
  }
  std::string path(std::string_view name) const { return join_path(root_, name); }

  TemporaryDirectory directory_;
  std::string root_;
  std::unique_ptr<Store> store_;
};

inline std::string read_blob(const tree::Blob& blob) {
  std::string text(blob.size, '\0');
  auto got = value_of(pread_full(blob.file->get(), std::as_writable_bytes(std::span(text)), blob.offset));
  text.resize(got);
  return text;
}

/// Bytes that do not compress or repeat, the same for the same seed.
inline std::string random_bytes(std::size_t size, std::uint64_t seed) {
  std::string text;
  text.reserve(size + 8);
  std::uint64_t state = seed * 0x9E3779B97F4A7C15ULL + 1;
  while (text.size() < size) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    append_le(text, state);
  }
  text.resize(size);
  return text;
}

/// A file of a layer under construction.
struct TestFile {
  std::string path;
  std::string contents;
};

/// Writes a layer of regular files the way import does. Its "tar" is a short head and the contents of each
/// file; the diffID is the digest of that.
inline Result<Digest> write_layer(Store& store, const std::vector<TestFile>& files) {
  LAYERFS_ASSIGN(auto objects, store.objects().make_writer());
  LAYERFS_ASSIGN(auto layer, store.make_layer_writer());
  Sha256 hash;
  LayerInfo info;
  for (const auto& file : files) {
    std::string head = "head of " + file.path + "\n";
    hash.update(head);
    hash.update(file.contents);
    LAYERFS_TRY(layer->add_raw(head));
    tree::LayerRecord record;
    record.kind = tree::RecordKind::kNode;
    record.path = file.path;
    record.node.mode = 0644;
    record.node.size = file.contents.size();
    if (!file.contents.empty()) {
      LAYERFS_ASSIGN(record.node.object, objects->put(as_bytes(file.contents)));
      record.node.content = tree::ContentKind::kObject;
      LAYERFS_TRY(layer->add_object(record.node.object, file.contents.size()));
    }
    LAYERFS_TRY(layer->add_record(record));
    info.tar_bytes += head.size() + file.contents.size();
    info.content_bytes += file.contents.size();
    ++info.entries;
  }
  info.diff_id = hash.finish();
  LAYERFS_TRY(objects->finish());
  LAYERFS_TRY(layer->publish(info));
  return info.diff_id;
}

/// An image of such layers with a manifest and a config that mean nothing.
inline Result<ImageRecord> write_image(Store& store, const std::string& reference,
                                       const std::vector<std::vector<TestFile>>& layers) {
  LAYERFS_ASSIGN(auto lease, store.lease());
  ImageRecord image;
  image.reference = reference;
  std::vector<Digest> diff_ids;
  for (const auto& files : layers) {
    LAYERFS_ASSIGN(Digest diff_id, write_layer(store, files));
    diff_ids.push_back(diff_id);
    image.layers.push_back({diff_id, diff_id, 0, "application/vnd.oci.image.layer.v1.tar"});
  }
  image.chain = chain_id(diff_ids);
  std::string config = "{\"chain\": \"" + image.chain.str() + "\"}";
  std::string manifest = "{\"config\": \"" + sha256(config).str() + "\"}";
  image.config = sha256(config);
  image.manifest = sha256(manifest);
  LAYERFS_TRY(store.put_blob(image.config, config));
  LAYERFS_TRY(store.put_blob(image.manifest, manifest));
  LAYERFS_TRY(store.put_image(image));
  return image;
}

inline std::vector<Digest> diff_ids_of(const ImageRecord& image) {
  std::vector<Digest> diff_ids;
  for (const auto& layer : image.layers) diff_ids.push_back(layer.diff_id);
  return diff_ids;
}

/// The messages of a check, one a line; empty: all is well.
inline std::string problems_of(Store& store, CheckDepth depth = CheckDepth::kContents) {
  std::string text;
  for (const auto& problem : value_of(store.check(depth)).problems)
    text += problem.subject + ": " + problem.reason + "\n";
  return text;
}

/// Regular files below the store, without those that are always there.
inline std::vector<std::string> files_of(const std::string& root) {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    if (!entry.is_regular_file()) continue;
    auto name = std::filesystem::relative(entry.path(), root).string();
    if (name != "format" && name != "lock" && !name.starts_with("catalog/")) files.push_back(name);
  }
  return files;
}

}  // namespace layerfs::store
