// SPDX-License-Identifier: Apache-2.0
// Reference: a whole name of an image in a registry. Pure; any thread.
//
// (1) A Reference has a host and a path. docker.io is the host of names that Docker's hub serves: one-word names there
//     are below library/, and index.docker.io is the same.
#pragma once

#include <string>
#include <string_view>

#include "fs/base/image_reference.h"
#include "fs/base/result.h"

namespace layerfs::registry {

struct Reference {
  std::string host;    ///< with its port
  std::string path;    ///< "library/debian"
  std::string tag;     ///< empty: none; then there is a digest, or all tags are meant
  std::string digest;  ///< "sha256:..." or empty

  /// "docker.io/library/debian".
  std::string name() const { return host + '/' + path; }
  /// With tag and digest.
  std::string str() const;
  /// What a manifest is asked for by: the digest where there is one, else the tag.
  const std::string& version() const { return digest.empty() ? tag : digest; }
  bool operator==(const Reference&) const = default;
};

enum class ShortNames : bool { kRefused, kDockerHub };

/// `text` as containers/image reads it. Without tag and digest the tag is `latest`. A name without a host is
/// docker.io's with kDockerHub. Errors: kInvalid; kUnsupported for a digest that is no SHA-256.
Result<Reference> parse_reference(std::string_view text, ShortNames short_names);

/// The host that serves `host`: registry-1.docker.io for docker.io, else itself.
std::string serving_host(const std::string& host);

}  // namespace layerfs::registry
