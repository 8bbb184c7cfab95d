// SPDX-License-Identifier: Apache-2.0
// Image references: the grammar of OCI distribution-spec "Pulling manifests" with the host part of Docker's
// reference grammar, and what a user may write instead of one.
#include <algorithm>

#include "fs/store/store.h"

namespace layerfs::store {

namespace {

constexpr std::string_view kDefaultHost = "localhost";
constexpr std::string_view kDefaultTag = "latest";
constexpr std::size_t kMaxRepository = 255;
constexpr std::size_t kMaxTag = 128;

bool is_lower(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }
bool is_word(char c) { return is_lower(c) || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
bool is_path_component(std::string_view text) {
  std::size_t at = 0;
  auto letters = [&] {
    std::size_t start = at;
    while (at < text.size() && is_lower(text[at])) ++at;
    return at > start;
  };
  if (!letters()) return false;
  while (at < text.size()) {
    std::size_t start = at;
    while (at < text.size() && !is_lower(text[at])) ++at;
    std::string_view separator = text.substr(start, at - start);
    bool dashes = separator.find_first_not_of('-') == std::string_view::npos;
    if (!dashes && separator != "." && separator != "_" && separator != "__") return false;
    if (!letters()) return false;
  }
  return true;
}

/// A host name, an IPv4 address or an IPv6 one in brackets, perhaps with a port.
bool is_host(std::string_view text) {
  std::size_t colon = text.rfind(':');
  if (!text.empty() && text.front() == '[') {
    std::size_t close = text.find(']');
    if (close == std::string_view::npos || close < 2) return false;
    if (text.substr(1, close - 1).find_first_not_of("0123456789abcdefABCDEF:.") != std::string_view::npos)
      return false;
    if (close + 1 == text.size()) return true;
    if (colon != close + 1) return false;
  }
  if (colon != std::string_view::npos) {
    std::string_view port = text.substr(colon + 1);
    if (port.empty() || port.size() > 5 || !std::all_of(port.begin(), port.end(), is_digit)) return false;
    text = text.substr(0, colon);
  }
  if (text.empty()) return false;
  if (text.front() == '[') return true;
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (is_word(c) && c != '_') || c == '-' || c == '.'; }) &&
         text.front() != '-' && text.front() != '.' && text.back() != '-' && text.back() != '.';
}

bool is_tag(std::string_view text) {
  if (text.empty() || text.size() > kMaxTag || text.front() == '.' || text.front() == '-') return false;
  return std::all_of(text.begin(), text.end(), [](char c) { return is_word(c) || c == '.' || c == '-'; });
}

/// The first component is a host where it could not be part of a repository on a default host.
bool names_host(std::string_view first) {
  return first == kDefaultHost || first.find_first_of(".:[") != std::string_view::npos;
}

struct Parts {
  std::string host;  // empty: none given
  std::string repository;
  std::string tag;     // empty: none given
  std::string digest;  // "sha256:..." or empty
};

Result<Parts> parse_reference(std::string_view text) {
  auto invalid = [&](std::string_view reason) {
    return invalid_error("parse image reference", text, reason);
  };
  Parts parts;
  std::string_view rest = text;
  if (std::size_t at = rest.find('@'); at != std::string_view::npos) {
    LAYERFS_ASSIGN(Digest digest, parse_digest(rest.substr(at + 1)));
    parts.digest = digest.str();
    rest = rest.substr(0, at);
  }
  std::size_t slash = rest.find('/');
  if (slash != std::string_view::npos && names_host(rest.substr(0, slash))) {
    parts.host = rest.substr(0, slash);
    if (!is_host(parts.host)) return invalid("the host is malformed");
    rest = rest.substr(slash + 1);
  }
  std::size_t colon = rest.rfind(':');
  if (colon != std::string_view::npos && rest.find('/', colon) == std::string_view::npos) {
    parts.tag = rest.substr(colon + 1);
    if (!is_tag(parts.tag)) return invalid("the tag is malformed");
    rest = rest.substr(0, colon);
  }
  parts.repository = rest;
  if (rest.empty()) return invalid("the name is empty");
  if (parts.host.size() + rest.size() > kMaxRepository) return invalid("the name is longer than 255 bytes");
  for (;;) {
    std::size_t end = rest.find('/');
    if (!is_path_component(rest.substr(0, end)))
      return invalid("a name has lower-case letters, digits and single separators");
    if (end == std::string_view::npos) return parts;
    rest = rest.substr(end + 1);
  }
}

std::string join(const Parts& parts, std::string_view host) {
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
Result<std::optional<ImageRecord>> find_image_by_digest(Store& store, const Parts& parts,
                                                        const std::vector<std::string>& hosts) {
  LAYERFS_ASSIGN(auto images, store.list_images());
  for (const auto& host : hosts)
    for (auto& image : images) {
      if (image.manifest.str() != parts.digest || image.reference.empty()) continue;
      auto has = parse_reference(image.reference);
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
  LAYERFS_ASSIGN(Parts parts, parse_reference(text));
  return join(parts, parts.host.empty() ? kDefaultHost : std::string_view(parts.host));
}

Result<void> check_image_name(std::string_view reference, const Digest& manifest) {
  auto refuse = [&](std::string_view reason) { return invalid_error("name image", reference, reason); };
  auto parts = parse_reference(reference);
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
  auto parts = parse_reference(text);
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
