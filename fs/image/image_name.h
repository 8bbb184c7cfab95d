// SPDX-License-Identifier: Apache-2.0
// Names of images as sources give them: which are the same, and what an image is called that has none. Pure;
// any thread.
#pragma once

#include <string>
#include <string_view>

namespace layerfs::image {

/// Both name one image: equal, or equal once normalised, Docker Hub's prefix left out.
bool is_same_name(std::string_view left, std::string_view right);

/// "node-v1" of "dir/Node V1.tar.gz": the last component as a repository name; empty where nothing is left.
std::string repository_name(const std::string& path);

}  // namespace layerfs::image
