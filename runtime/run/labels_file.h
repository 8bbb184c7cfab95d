// SPDX-License-Identifier: Apache-2.0
// STORE/containers/ID/labels: the labels that a container was given (RUN.md, "Files").
#pragma once

#include <map>
#include <string>

#include "fs/base/result.h"

namespace layerfs::run {

using Labels = std::map<std::string, std::string>;

Result<void> write_labels(const std::string& container_dir, const Labels& labels);
/// Empty where it has none, or the file is damaged.
Labels read_labels(const std::string& container_dir);

}  // namespace layerfs::run
