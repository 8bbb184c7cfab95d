// SPDX-License-Identifier: Apache-2.0
// How commands come to what is in the store: `import` and what pulls make one, all others want it to
// be there.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fs/base/result.h"
#include "fs/store/store.h"
#include "tools/io.h"

namespace layerfs::tools {

/// Whether there is one.
Result<bool> has_store(const Tool& tool);
/// The store, which is not made where it is missing. Errors: ENOENT, saying so.
Result<std::unique_ptr<store::Store>> open_store(const Tool& tool, store::StoreAccess access);

/// For lists, to read: nullptr where there is none yet and nobody named one (--root, LAYERFS_ROOT): a new
/// user's list is empty. Errors: ENOENT where one was named.
Result<std::unique_ptr<store::Store>> find_store(const Tool& tool);

/// store::get_image_by_name() for who is going to use the image: where it is missing the message says how to
/// bring it in.
Result<store::ImageRecord> get_image_to_use(store::Store& store, const std::string& name);
/// Errors: ENOENT, as a missing image, where the store itself is missing.
Result<void> check_store_of_image(const Tool& tool, const std::string& image);

/// A container or an upper by name, id or unique prefix of the id; an upper that bears the name of its image
/// also by what may be written for that ("busybox" for "localhost/busybox:latest").
Result<std::optional<store::ContainerRecord>> find_container_or_upper(store::Store& store,
                                                                      const std::string& name);

/// The names that a user's `text` may stand for, in the order in which they are tried. Empty where it is no
/// reference.
std::vector<std::string> full_names(const std::string& text);

}  // namespace layerfs::tools
