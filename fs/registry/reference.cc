// SPDX-License-Identifier: Apache-2.0
#include "fs/registry/reference.h"

namespace layerfs::registry {

namespace {
constexpr std::string_view kHub = "docker.io";
}  // namespace

std::string Reference::str() const {
  std::string text = name();
  if (!tag.empty()) text += ':' + tag;
  if (!digest.empty()) text += '@' + digest;
  return text;
}

Result<Reference> parse_reference(std::string_view text, ShortNames short_names) {
  LAYERFS_ASSIGN(ImageReference parts, parse_image_reference(text));
  if (parts.host.empty()) {
    if (short_names == ShortNames::kRefused)
      return invalid_error("parse image reference", text, "a name with a registry's host is wanted");
    parts.host = kHub;
  }
  if (parts.host == "index.docker.io") parts.host = kHub;
  if (parts.host == kHub && parts.repository.find('/') == std::string::npos)
    parts.repository = "library/" + parts.repository;
  Reference reference{std::move(parts.host), std::move(parts.repository), std::move(parts.tag),
                      std::move(parts.digest)};
  if (reference.tag.empty() && reference.digest.empty()) reference.tag = kDefaultTag;
  return reference;
}

std::string serving_host(const std::string& host) { return host == kHub ? "registry-1.docker.io" : host; }

}  // namespace layerfs::registry
