// SPDX-License-Identifier: Apache-2.0
// UTF-8 as RFC 3629 has it. Pure; any thread.
#pragma once

#include <cstddef>
#include <string_view>

namespace layerfs {

/// Bytes of the character that `text` begins with; 0 where it begins with none: an overlong form, a
/// surrogate, a byte that stands alone, nothing.
std::size_t utf8_length(std::string_view text);

}  // namespace layerfs
