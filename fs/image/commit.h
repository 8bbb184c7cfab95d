// SPDX-License-Identifier: Apache-2.0
// Commit: the changes of an upper over its tree become a layer, and base plus layer an image.
//
// (1) The layer is canonical (layer_diff.h): the same change gives the same bytes, so the same digest.
// (2) A name that begins with ".wh." cannot be represented and is refused by name.
// (3) The layer goes through the same pipeline as an imported one. On an error there is no image, and at most
//     a layer that nothing names, which gc removes.
// (4) The new image's tree is built, so that it mounts at once.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "fs/base/result.h"
#include "fs/image/importer.h"
#include "fs/store/store.h"
#include "fs/tree/upper_layer.h"

namespace layerfs::image {

struct CommitOptions {
  std::string author;
  std::string message;
  std::string created_by = "layerfs commit";
  std::vector<std::string> changes;  ///< image_config.h: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, ...
  std::int64_t created = 0;          ///< seconds since 1970; 0: now, or $SOURCE_DATE_EPOCH
  /// Asked when everything was read, before the image is recorded: an error is the commit's.
  std::function<Result<void>()> check_unchanged = [] { return Result<void>(); };
};

/// `reference` is normalised (store.h). Requires: `upper` does not change during the call (frozen, or not
/// mounted). Errors: those of layer_diff.h and image_config.h; kInvalid where `reference` is none; ENOSPC...
Result<store::ImageRecord> commit_upper(store::Store& store, const store::ContainerRecord& container,
                                        const tree::TreeSource& lower, const tree::UpperLayer& upper,
                                        const std::string& reference, const CommitOptions& options);

}  // namespace layerfs::image
