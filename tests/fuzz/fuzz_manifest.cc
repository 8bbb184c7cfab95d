// SPDX-License-Identifier: Apache-2.0
// Fuzz target: bytes as each of the image documents. What is read and printed reads as the same again.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "fs/image/manifest.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace layerfs::image;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  if (auto index = parse_index(text)) {
    auto again = parse_index(format_index(*index));
    if (!again || *again != *index) std::abort();
    if (const Descriptor* chosen = choose_platform(index->manifests, host_platform()))
      if (chosen < index->manifests.data()) std::abort();
  }
  if (auto manifest = parse_manifest(text)) {
    auto again = parse_manifest(format_manifest(*manifest));
    if (!again || *again != *manifest) std::abort();
  }
  if (auto config = parse_image_config(text))
    if (config->diff_ids.size() > size) std::abort();
  if (auto images = parse_archive_manifest(text))
    for (const auto& image : *images)
      if (image.config.empty()) std::abort();
  return 0;
}
