// SPDX-License-Identifier: Apache-2.0
#include "fs/base/image_reference.h"

#include <algorithm>

#include "fs/base/digest.h"

namespace layerfs {

namespace {

constexpr std::string_view kLocalHost = "localhost";
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
  return first == kLocalHost || first.find_first_of(".:[") != std::string_view::npos;
}

}  // namespace

Result<ImageReference> parse_image_reference(std::string_view text) {
  auto invalid = [&](std::string_view reason) {
    return invalid_error("parse image reference", text, reason);
  };
  ImageReference parts;
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

}  // namespace layerfs
