// SPDX-License-Identifier: Apache-2.0
#include "fs/base/utf8.h"

namespace layerfs {

std::size_t utf8_length(std::string_view text) {
  if (text.empty()) return 0;
  auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) return 1;
  std::size_t size = lead >= 0xc2 && lead <= 0xdf ? 2 : lead >= 0xe0 && lead <= 0xef ? 3 : 4;
  if (size == 4 && (lead < 0xf0 || lead > 0xf4)) return 0;
  if (text.size() < size) return 0;
  for (std::size_t i = 1; i < size; ++i)
    if ((static_cast<unsigned char>(text[i]) & 0xc0) != 0x80) return 0;
  auto second = static_cast<unsigned char>(text[1]);  // overlong forms, surrogates, beyond U+10FFFF
  bool wrong = (lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) ||
               (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f);
  return wrong ? 0 : size;
}

}  // namespace layerfs
