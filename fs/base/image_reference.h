// SPDX-License-Identifier: Apache-2.0
// ImageReference: a name as users and registries write it, taken apart: HOST[:PORT]/PATH[:TAG][@DIGEST] (OCI
// distribution-spec, "Pulling manifests", with the host part of Docker's reference grammar). Pure; any thread.
#pragma once

#include <string>
#include <string_view>

#include "fs/base/result.h"

namespace layerfs {

struct ImageReference {
  std::string host;        ///< with its port; empty: none given, the name is a short one
  std::string repository;  ///< without the host
  std::string tag;         ///< empty: none given
  std::string digest;      ///< "sha256:..." or empty
  bool operator==(const ImageReference&) const = default;
};

/// The tag that a name without tag and digest means.
inline constexpr std::string_view kDefaultTag = "latest";

/// The first component is a host where it has a dot, a colon or a bracket, or is `localhost`. Errors: kInvalid,
/// with what is wrong; kUnsupported for a digest that is no SHA-256.
Result<ImageReference> parse_image_reference(std::string_view text);

}  // namespace layerfs
