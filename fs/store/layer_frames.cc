// SPDX-License-Identifier: Apache-2.0
#include "fs/store/layer_frames.h"

#include "fs/store/format.h"

namespace layerfs::store {

namespace {
constexpr std::uint8_t kRaw = 0;
constexpr std::uint8_t kObject = 1;
}  // namespace

void append_frame(std::string& to, const Frame& frame) {
  if (frame.object) {
    to += static_cast<char>(kObject);
    append_varint(to, frame.size);
    append_digest(to, *frame.object);
  } else {
    to += static_cast<char>(kRaw);
    append_varint(to, frame.raw.size());
    to += frame.raw;
  }
}

bool take_frame(ByteReader& from, Frame& frame) {
  auto kind = from.le<std::uint8_t>();
  frame = Frame{};
  if (kind == kObject) {
    frame.size = take_varint(from);
    frame.object = take_digest(from);
  } else if (kind == kRaw) {
    frame.raw = from.take(take_varint(from));
  } else {
    return false;
  }
  return from.ok();
}

}  // namespace layerfs::store
