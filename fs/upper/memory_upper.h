// SPDX-License-Identifier: Apache-2.0
// MemoryUpper: an UpperLayer that keeps everything in memory, data in memfds. For tests and as the model.
#pragma once

#include <memory>

#include "fs/tree/upper_layer.h"

namespace layerfs::upper {

std::unique_ptr<tree::UpperLayer> make_memory_upper();

}  // namespace layerfs::upper
