// SPDX-License-Identifier: Apache-2.0
// What a user may write for an image of the store: a reference (fs/base/image_reference.h), whole or short, or an
// id.
#include <algorithm>

#include "fs/base/image_reference.h"
#include "fs/store/store.h"

namespace layerfs::store {

namespace {

constexpr std::string_view kDefaultHost = "localhost";

std::string join(const ImageReference& parts, std::string_view host) {
  std::string text(host);
  text += '/' + parts.repository;
  if (!parts.tag.empty())
    text += ':' + parts.tag;
  else if (parts.digest.empty())
    text += ':' + std::string(kDefaultTag);
  if (!parts.digest.empty()) text += '@' + parts.digest;
  return text;
}

constexpr std::size_t kIdDigits = 64;

bool is_hex(std::string_view text) {
  return text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

bool is_id_prefix(std::string_view text) {
  if (text.starts_with("sha256:")) text.remove_prefix(7);
  return !text.empty() && text.size() <= kIdDigits && is_hex(text);
}

bool is_whole_id(std::string_view text) {
  if (text.starts_with("sha256:")) text.remove_prefix(7);
  return text.size() == kIdDigits && is_hex(text);
}

/// An image named `host`/REPOSITORY whose manifest has the digest of `parts`, under whatever tag.
Result<std::optional<ImageRecord>> find_image_by_digest(Store& store, const ImageReference& parts,
                                                        const std::vector<std::string>& hosts) {
  LAYERFS_ASSIGN(auto images, store.list_images());
  for (const auto& host : hosts)
    for (auto& image : images) {
      if (image.manifest.str() != parts.digest || image.reference.empty()) continue;
      auto has = parse_image_reference(image.reference);
      if (has && has->host + '/' + has->repository == host + '/' + parts.repository) return std::move(image);
    }
  return std::nullopt;
}

/// The one image whose config's hex begins with `prefix`; several names of one image are one.
Result<std::optional<ImageRecord>> find_image_by_id(Store& store, std::string_view text) {
  std::string_view prefix = text.starts_with("sha256:") ? text.substr(7) : text;
  LAYERFS_ASSIGN(auto images, store.list_images());
  std::optional<ImageRecord> found;
  for (auto& image : images) {
    bool matches =
        image.config.hex().starts_with(prefix) || (prefix.size() == 64 && image.manifest.hex() == prefix);
    if (!matches) continue;
    if (found && found->config != image.config)
      return invalid_error("find image", text, "more than one image's id begins so");
    if (!found || found->reference.empty()) found = std::move(image);
  }
  return found;
}

}  // namespace

Result<std::string> normalise_reference(std::string_view text) {
  LAYERFS_ASSIGN(ImageReference parts, parse_image_reference(text));
  return join(parts, parts.host.empty() ? kDefaultHost : std::string_view(parts.host));
}

Result<void> check_image_name(std::string_view reference, const Digest& manifest) {
  auto refuse = [&](std::string_view reason) { return invalid_error("name image", reference, reason); };
  auto parts = parse_image_reference(reference);
  if (!parts) return {};  // whoever writes such a name does not mean an image's id
  if (!parts->digest.empty() && parts->digest != manifest.str())
    return refuse("its manifest has the digest " + manifest.str());
  std::string_view repository = parts->repository;
  if (repository.starts_with("library/")) repository.remove_prefix(8);
  if (repository == "sha256" || repository == "sha512" || is_whole_id(repository))
    return refuse("it reads as an image's id");
  return {};
}

Result<ImageRecord> get_image_by_name(Store& store, std::string_view text) {
  auto missing = [&] {
    auto error = system_error(ENOENT, "find image", text);
    error.error().reason = "no such image";
    return error;
  };
  if (is_whole_id(text)) {
    LAYERFS_ASSIGN(auto found, find_image_by_id(store, text));
    if (!found) return missing();
    return std::move(*found);
  }
  auto parts = parse_image_reference(text);
  // A record's name is what somebody called it; the digest in it is verified.
  auto is_meant = [&](const std::optional<ImageRecord>& image) {
    return image && (!parts || parts->digest.empty() || image->manifest.str() == parts->digest);
  };
  LAYERFS_ASSIGN(auto exact, store.find_image(text));
  if (is_meant(exact)) return std::move(*exact);
  if (parts) {
    std::vector<std::string> hosts{parts->host};
    // Podman's order for short names of images that are there: its own, then Docker's official and other
    // ones.
    if (parts->host.empty()) hosts = {std::string(kDefaultHost), "docker.io/library", "docker.io"};
    for (const auto& host : hosts) {
      LAYERFS_ASSIGN(auto found, store.find_image(join(*parts, host)));
      if (is_meant(found)) return std::move(*found);
    }
    if (!parts->digest.empty()) {
      LAYERFS_ASSIGN(auto found, find_image_by_digest(store, *parts, hosts));
      if (found) return std::move(*found);
    }
  }
  if (is_id_prefix(text)) {
    LAYERFS_ASSIGN(auto found, find_image_by_id(store, text));
    if (found) return std::move(*found);
  }
  return missing();
}

}  // namespace layerfs::store
