// SPDX-License-Identifier: Apache-2.0
// Builds OCI layouts and docker-archives for tests, right or wrong in a chosen place.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fs/base/sha256.h"
#include "fs/base/sys_file.h"
#include "fs/image/compress.h"
#include "fs/image/manifest.h"
#include "tests/support/tar_builder.h"

namespace layerfs::image {

inline std::string compress(std::string_view input, Compression compression) {
  std::string output;
  EncoderOptions options;
  options.compression = compression;
  options.threads = 1;
  auto encoder = make_encoder(options, [&](std::string_view bytes) -> Result<void> {
    output += bytes;
    return {};
  });
  EXPECT_TRUE(encoder && (*encoder)->write(input) && (*encoder)->finish());
  return output;
}

inline void write_text(const std::string& path, std::string_view text) {
  auto fd = open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  ASSERT_TRUE(fd) << fd.error().message();
  ASSERT_TRUE(write_full(fd->get(), std::as_bytes(std::span(text))));
}

/// Files of a layout or archive, by their path in it.
using FileMap = std::map<std::string, std::string>;

inline void write_files(const std::string& dir, const FileMap& files) {
  for (const auto& [path, text] : files) {
    std::string full = join_path(dir, path);
    ASSERT_TRUE(make_dirs(full.substr(0, full.rfind('/')), 0755));
    write_text(full, text);
  }
}

inline std::string tar_of(const FileMap& files) {
  TarBuilder tar;
  for (const auto& [path, text] : files) tar.file(path, text);
  return tar.finish();
}

class LayoutBuilder {
 public:
  using Json = nlohmann::json;

  /// Adds a blob and returns its descriptor.
  Json add_blob(std::string_view media_type, const std::string& bytes) {
    Digest digest = sha256(bytes);
    files["blobs/sha256/" + digest.hex()] = bytes;
    return {{"mediaType", media_type}, {"digest", digest.str()}, {"size", bytes.size()}};
  }

  Json add_layer(const std::string& tar, Compression compression) {
    switch (compression) {
      case Compression::kGzip: return add_blob(media::kOciLayerGzip, compress(tar, compression));
      case Compression::kZstd: return add_blob(media::kOciLayerZstd, compress(tar, compression));
      case Compression::kNone: break;
    }
    return add_blob(media::kOciLayerTar, tar);
  }

  static Json config_of(const std::vector<std::string>& tars, const Platform& platform = host_platform()) {
    Json config = {{"os", platform.os},
                   {"architecture", platform.architecture},
                   {"rootfs", {{"type", "layers"}, {"diff_ids", Json::array()}}},
                   {"history", Json::array()}};
    for (const auto& tar : tars) {
      config["rootfs"]["diff_ids"].push_back(sha256(tar).str());
      config["history"].push_back({{"created_by", "a test"}});
    }
    return config;
  }

  /// An image of these layers' tars; returns the descriptor of its manifest.
  Json add_image(const std::vector<std::string>& tars, Compression compression = Compression::kGzip,
                 const Platform& platform = host_platform()) {
    std::vector<Json> layers;
    for (const auto& tar : tars) layers.push_back(add_layer(tar, compression));
    return add_manifest(config_of(tars, platform), layers);
  }

  Json add_manifest(const Json& config, const std::vector<Json>& layers) {
    Json manifest = {{"schemaVersion", 2},
                     {"mediaType", media::kOciManifest},
                     {"config", add_blob(media::kOciConfig, config.dump())},
                     {"layers", layers}};
    return add_blob(media::kOciManifest, manifest.dump());
  }

  Json add_index(const std::vector<Json>& manifests) {
    Json index = {{"schemaVersion", 2}, {"mediaType", media::kOciIndex}, {"manifests", manifests}};
    return add_blob(media::kOciIndex, index.dump());
  }

  static Json tagged(Json descriptor, const std::string& tag) {
    descriptor["annotations"][std::string(kRefNameAnnotation)] = tag;
    return descriptor;
  }
  static Json for_platform(Json descriptor, const std::string& os, const std::string& architecture) {
    descriptor["platform"] = {{"os", os}, {"architecture", architecture}};
    return descriptor;
  }

  /// Completes the layout with this index.json.
  FileMap& finish(const std::vector<Json>& manifests) {
    files["oci-layout"] = R"({"imageLayoutVersion":"1.0.0"})";
    files["index.json"] = Json{{"schemaVersion", 2}, {"manifests", manifests}}.dump();
    return files;
  }

  FileMap files;
};

}  // namespace layerfs::image
