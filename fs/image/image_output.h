// SPDX-License-Identifier: Apache-2.0
// ImageOutput: where an exported image goes: blobs by digest, then a few named documents, then finish(). A
// directory (oci_layout_writer.h) or one archive file (archive_writer.h). One thread.
//
// (1) Nothing is seen at the destination before finish() succeeds; without it nothing is left there.
// (2) A blob is put once, however often it is written.
#pragma once

#include <string>
#include <string_view>

#include "fs/base/digest.h"
#include "fs/base/result.h"

namespace layerfs::image {

class ImageOutput {
 public:
  virtual ~ImageOutput() = default;

  /// A blob in pieces, named at its end. One at a time.
  virtual Result<void> begin_blob() = 0;
  virtual Result<void> write(std::string_view bytes) = 0;
  virtual Result<void> end_blob(const Digest& digest) = 0;
  /// A small blob at once; the digest is its own.
  Result<Digest> put_blob(std::string_view bytes);

  /// A file beside blobs/, e.g. index.json.
  virtual Result<void> put_document(const std::string& name, std::string_view bytes) = 0;
  virtual Result<void> finish() = 0;
};

/// "blobs/sha256/<hex>".
std::string blob_path(const Digest& digest);

}  // namespace layerfs::image
