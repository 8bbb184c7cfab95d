// SPDX-License-Identifier: Apache-2.0
// An image as one tar file: oci-archive, docker-archive, or both at once. The same image gives the same
// bytes.
//
// (1) The file is written under a temporary name beside its place and renamed there. A blob's header is
//     written after the blob, when digest and size are known, so nothing is written twice.
#pragma once

#include <memory>
#include <string>

#include "fs/image/image_output.h"

namespace layerfs::image {

/// Errors: kInvalid where something else than a regular file is at `path`; ENOENT, EACCES...
Result<std::unique_ptr<ImageOutput>> make_archive_writer(const std::string& path);

}  // namespace layerfs::image
