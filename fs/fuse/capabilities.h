// SPDX-License-Identifier: Apache-2.0
// What is negotiated with the kernel at INIT, and why. The rest of the adapter relies on it.
#pragma once

#include <string>

#include "fs/fuse/adapter.h"
#include "fs/fuse/libfuse.h"

namespace layerfs::fuse {

/// The most bytes that one WRITE or READ carries: 256 pages, the kernel's default max_pages_limit.
inline constexpr unsigned kMaxTransfer = 1024 * 1024;

/// Chooses the features of a connection. Apart from negotiate() for bench/fuse_floor, which is to be measured
/// with the same ones.
void choose_features(fuse_conn_info& connection);

/// The INIT operation: sets `connection` and what `adapter` needs to know of the outcome.
void negotiate(Adapter& adapter, fuse_conn_info& connection);

}  // namespace layerfs::fuse
