// SPDX-License-Identifier: Apache-2.0
// Opening a delta with other sizes, times and flushing calls than the usual, for tests. delta_upper.h is for
// the rest.
#pragma once

#include <memory>
#include <string>

#include "fs/base/result.h"
#include "fs/tree/upper_layer.h"
#include "fs/upper/delta_tuning.h"
#include "fs/upper/delta_upper.h"

namespace layerfs::upper {

Result<std::unique_ptr<tree::UpperLayer>> open_delta_with(const std::string& directory, DeltaOptions options,
                                                          const DeltaTuning& tuning);

/// The boot id of this machine; zeros where it can't be read.
BootId current_boot_id();

}  // namespace layerfs::upper
