// SPDX-License-Identifier: Apache-2.0
// The ObjectWriter of the store (object_store.h; FORMAT.md, "Objects", has the order of its writes).
#pragma once

#include <memory>

#include "fs/store/catalog_db.h"
#include "fs/store/layout.h"
#include "fs/store/object_store.h"

namespace layerfs::store {

/// Requires: both outlive the writer.
Result<std::unique_ptr<ObjectWriter>> make_object_writer(const Layout& layout, CatalogDb& catalog);

}  // namespace layerfs::store
