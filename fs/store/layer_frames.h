// SPDX-License-Identifier: Apache-2.0
// Frame: a piece of a layer's tar, raw bytes or a whole object (FORMAT.md, "Framing").
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "fs/base/bytes.h"
#include "fs/base/digest.h"

namespace layerfs::store {

struct Frame {
  std::string_view raw;
  std::optional<Digest> object;
  std::uint64_t size = 0;  ///< of the object
};
void append_frame(std::string& to, const Frame& frame);
/// False where the bytes are no frame. `frame.raw` points into them.
bool take_frame(ByteReader& from, Frame& frame);

}  // namespace layerfs::store
